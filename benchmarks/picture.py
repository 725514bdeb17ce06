"""The picture's convolutions with OpenVINO: in float32, and in integers on the uint8 picture.

    python benchmarks/picture.py --bundle BUNDLE --data DIR [--samples 64] [--limit N] [--rounds 40]

For a bundle of STFPM or Reverse Distillation. Times are medians of interleaved rounds. Writes
benchmarks/published/picture.json and .md.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Dict
from unittest import mock

import openvino
from contenders import Run, openvino_engine
from leaky import headings, milliseconds, row
from published import publish
from quality import load_tests, measure

from adq_edge.building import build
from adq_edge.bundle import Bundle, open_bundle
from adq_edge.datasets.layout import read_dataset
from adq_edge.environment import read_environment
from adq_edge.makers.cpu import CpuMaker
from adq_edge.options import Precision, RuntimeName

FLOAT = "FP32"


def engines(bundle: Bundle, options: argparse.Namespace) -> Dict[str, Run]:
    """Return the engines by name, FP32 first."""

    def built(precision: Precision, in_integers: bool) -> Run:
        with tempfile.TemporaryDirectory() as folder, mock.patch.object(
            CpuMaker, "_reads_integers", return_value=in_integers
        ):
            path = build(
                bundle.path,
                Path(folder) / "engine.onnx",
                precision=precision,
                runtime=RuntimeName.OPENVINO,
                calib_data=options.data,
                samples=options.samples,
                threads=options.threads,
            ).path
            return openvino_engine(openvino.Core().read_model(path.read_bytes()), options.threads)

    return {
        FLOAT: built(Precision.FP32, in_integers=False),
        "INT8, the picture's convolutions in float": built(Precision.INT8, in_integers=False),
        "INT8": built(Precision.INT8, in_integers=True),
    }


def main() -> None:
    """Measure the engines and publish the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", required=True, type=Path)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--samples", type=int, default=64, help="calibration images")
    parser.add_argument("--limit", type=int, help="test images at most; all by default")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    bundle = open_bundle(options.bundle)
    runs = engines(bundle, options)
    tests = load_tests(read_dataset(options.data), bundle.manifest.image_size, options.limit)
    found = {name: measure(run, tests) for name, run in runs.items()}
    ms = milliseconds(runs, tests[0].picture, options.rounds)
    lines = [row(name, found, ms) for name in found]
    publish(
        "picture",
        f"{bundle.manifest.arch} with OpenVINO: what reads the picture; {len(tests)} test images, "
        f"{options.samples} calibration images, {options.threads} threads",
        headings(found[FLOAT]),
        lines,
        {"options": bundle.manifest.options, "rows": lines, "milliseconds": ms},
        read_environment(),
    )


if __name__ == "__main__":
    main()
