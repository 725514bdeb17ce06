"""The engines that a search for fast models found: image AUROC, latency and size.

    adq-edge train --find-fast --data DIR
    python -m benchmarks.find_fast find-fast/find_fast.json [--name find_fast]

Writes benchmarks/published/NAME.json and .md.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

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
    title = f"Fast models: {search.test_images} test images of {categories}; {epochs} epochs"
    headings = [column.heading for column in table.columns]
    rows = [list(row) for row in table.texts]
    document = _without_folders(search.document(), asked.result.resolve().parent, Path(search.data).parent)
    publish(asked.name, title, headings, rows, document, search.environment)


def _without_folders(document: Any, search: Path, data: Path) -> Any:
    """Return a document with paths relative to the folder of the search and to that above the data."""
    text = json.dumps(document).replace(f"{search}/", "").replace(f"{data}/", "DATA/")
    return json.loads(text)


if __name__ == "__main__":
    main()
