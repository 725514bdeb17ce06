"""Networks that do less work beside the whole ones: AUROC, time and size.

A PaSTe shares the teacher's trunk; `export --layers` leaves out the maps of shallow layers.

    python -m benchmarks.shared_trunk ENGINE [ENGINE ...] --data DIR [--rounds 200] [--name shared_trunk]

The engines are measured on the same test images. Their times are taken in turn, in one process. The ratio is
to the first engine. Writes benchmarks/published/NAME.json and .md.
"""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path
from typing import Dict, List, Tuple

import numpy as np

from adq_edge.core.text import number_of
from adq_edge.datasets.dataset import read_dataset
from adq_edge.hardware.environment import read_environment
from adq_edge.runtimes.base import Engine
from adq_edge.runtimes.registry import load_engine
from benchmarks.contenders import Run
from benchmarks.published import publish
from benchmarks.quality import Measured, load_tests, measure
from benchmarks.timing import milliseconds


def runner(engine: Engine) -> Run:
    """Return a function from an image `[H, W, 3]` to its map and score."""

    def run(image: np.ndarray) -> Tuple[np.ndarray, float]:
        output = engine.run(image[np.newaxis])
        return np.array(output.maps[0]), float(output.scores[0])

    return run


def row(path: Path, engine: Engine, found: Measured, ms: float, ratio: float) -> List[str]:
    """Return the table row of an engine."""
    sidecar = engine.sidecar
    maps = f", {number_of(len(sidecar.scale_sizes), 'map')}" if sidecar.scale_sizes else ""
    areas = [found.image_auroc, *found.categories.values(), found.pixel_auroc]
    return [
        f"{sidecar.arch}{maps}, {sidecar.precision.value}, {engine.runtime}",
        *("-" if area is None else f"{area:.4f}" for area in areas),
        f"{ms:.2f}",
        f"{ratio:.2f}",
        f"{path.stat().st_size / 1e6:.1f}",
    ]


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("engines", nargs="+", type=Path)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--name", default="shared_trunk")
    asked = parser.parse_args()
    with contextlib.ExitStack() as stack:
        loaded = {
            path: stack.enter_context(load_engine(path, threads=asked.threads)) for path in asked.engines
        }
        size = next(iter(loaded.values())).sidecar.image_size
        tests = load_tests(read_dataset(asked.data), size, None)
        runs: Dict[str, Run] = {str(path): runner(engine) for path, engine in loaded.items()}
        found = {name: measure(run, tests) for name, run in runs.items()}
        ms = milliseconds(runs, tests[0].image, asked.rounds)
        first = next(iter(ms.values()))
        rows = [
            row(path, engine, found[str(path)], ms[str(path)], ms[str(path)] / first)
            for path, engine in loaded.items()
        ]
    categories = list(next(iter(found.values())).categories)
    headings = ["engine", "image AUROC", *categories, "pixel AUROC", "p50 ms", "ratio", "MB"]
    title = f"Less work: AUROC, time and size; {len(tests)} test images, {asked.threads} threads"
    publish(asked.name, title, headings, rows, {"rows": rows, "milliseconds": ms}, read_environment())


if __name__ == "__main__":
    main()
