"""What FP16, INT8, FP8 and 2:4 sparsity cost with TensorRT, emulated on a CPU.

    python -m benchmarks.number_formats BUNDLE --data DIR [--samples 64] [--limit N] [--name NAME]

Image AUROC by category, and the difference of the maps from those of FP32. Nothing is trained after weights
are set to zero. Writes benchmarks/published/NAME.json and .md.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from adq_edge.artifacts.bundle import open_bundle
from adq_edge.builders.build import build
from adq_edge.core.options import Precision
from adq_edge.core.runtimes import TENSORRT_EMULATION
from adq_edge.datasets.dataset import read_dataset
from adq_edge.hardware.environment import read_environment
from adq_edge.metrics.agreement import MapComparison
from adq_edge.runtimes.registry import load_engine
from benchmarks.command_line import make_parser
from benchmarks.published import publish
from benchmarks.quality import Measured, TestImage, load_tests, measure
from benchmarks.shared_trunk import runner

NAME = "number_formats"
FORMATS: Sequence[Tuple[str, Precision, Optional[str]]] = (
    ("FP32", Precision.FP32, None),
    ("FP16", Precision.FP16, None),
    ("INT8", Precision.INT8, None),
    ("FP8", Precision.FP8, None),
    ("FP16, 2:4", Precision.FP16, "2:4"),
    ("INT8, 2:4", Precision.INT8, "2:4"),
    ("FP8, 2:4", Precision.FP8, "2:4"),
)


def measure_formats(
    bundle: Path, tests: List[TestImage], asked: argparse.Namespace
) -> Iterator[Tuple[str, Measured]]:
    """Build the engine of each number format from a bundle and measure it."""
    for name, precision, sparsity in FORMATS:
        built = build(
            bundle,
            bundle.parent / "engine.onnx",
            precision=precision,
            calib_data=asked.data,
            samples=asked.samples,
            runtime=TENSORRT_EMULATION.name,
            threads=asked.threads,
            sparsity=sparsity,
        )
        with load_engine(built.path, threads=asked.threads) as engine:
            yield name, measure(runner(engine), tests)
            print(name, flush=True)


def row(name: str, found: Dict[str, Measured]) -> List[str]:
    """Return the table row of an engine; the first of `found` is FP32."""
    measured, reference = found[name], next(iter(found.values()))
    maps = MapComparison()
    for expected, actual in zip(reference.maps, measured.maps):
        maps.update(np.asarray(expected), np.asarray(actual))
    areas = [measured.image_auroc, *measured.categories.values(), measured.pixel_auroc]
    snr = None if measured is reference else maps.compute().snr_db
    shown = ["-" if area is None else f"{area:.4f}" for area in areas]
    return [name, *shown, "-" if snr is None else f"{snr:.1f}"]


def main() -> None:
    """Measure and publish."""
    parser = make_parser(f"benchmarks.{NAME}", __doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--samples", type=int, default=64, help="calibration images")
    parser.add_argument("--limit", type=int, help="largest number of test images; all by default")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--name", default=NAME, help="name of the published table")
    asked = parser.parse_args()
    bundle = open_bundle(asked.bundle)
    tests = load_tests(read_dataset(asked.data), bundle.manifest.image_size, asked.limit)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "bundle"
        shutil.copytree(str(bundle.path), str(copy), ignore=shutil.ignore_patterns("ranges"))
        found = dict(measure_formats(copy, tests, asked))
    rows = [row(name, found) for name in found]
    categories = next(iter(found.values())).categories
    headings = ["format", "image AUROC", *categories, "pixel AUROC", "map SNR dB"]
    title = (
        f"{bundle.manifest.arch} with TensorRT's number formats, emulated; {len(tests)} test images, "
        f"{asked.samples} calibration images; nothing trained after pruning"
    )
    publish(asked.name, title, headings, rows, {"rows": rows}, read_environment())


if __name__ == "__main__":
    main()
