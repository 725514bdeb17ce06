"""The engines that a search for fast models found: image AUROC, latency and size.

    adq-edge train --find-fast --data DIR
    python -m benchmarks.find_fast find-fast/find_fast.json [--name find_fast]

Writes benchmarks/published/NAME.json and .md.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from adq_edge.study.fast_results import FastSearch, engines_table
from benchmarks.published import publish


def main() -> None:
    """Publish the table of a search."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("result", type=Path)
    parser.add_argument("--name", default="find_fast")
    asked = parser.parse_args()
    search = FastSearch.read(asked.result)
    table = engines_table(search)
    epochs = max(one.epochs for one in search.engines)
    categories = ", ".join(search.categories)
    title = (
        f"Fast models: {search.test_images} test images of {categories}; {epochs} epochs, "
        f"{search.cpu_minutes:.0f} minutes of CPU time"
    )
    headings = [column.heading for column in table.columns]
    rows = [list(row) for row in table.texts]
    publish(asked.name, title, headings, rows, search.document(), search.environment)


if __name__ == "__main__":
    main()
