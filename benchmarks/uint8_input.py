"""The first convolutions with OpenVINO: in float32, and in integers on the uint8 image.

    python -m benchmarks.uint8_input --bundle BUNDLE --data DIR [--samples 64] [--limit N] [--rounds 40]

For a bundle of STFPM or Reverse Distillation. Times are medians of interleaved rounds. Writes
benchmarks/published/uint8_input.json and .md.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Dict
from unittest import mock

import openvino

from adq_edge.artifacts.bundle import Bundle
from adq_edge.builders.build import build
from adq_edge.builders.cpu import CpuEngineBuilder
from adq_edge.core.options import Precision
from benchmarks.contenders import Run, openvino_engine
from benchmarks.engine_table import compare

FLOAT = "FP32"


def engines(bundle: Bundle, options: argparse.Namespace) -> Dict[str, Run]:
    """Return the engines by name, FP32 first."""

    def built(precision: Precision, in_integers: bool) -> Run:
        with tempfile.TemporaryDirectory() as folder, mock.patch.object(
            CpuEngineBuilder, "_reads_integers", return_value=in_integers
        ):
            path = build(
                bundle.path,
                Path(folder) / "engine.onnx",
                precision=precision,
                runtime="openvino",
                calib_data=options.data,
                samples=options.samples,
                threads=options.threads,
            ).path
            return openvino_engine(openvino.Core().read_model(path.read_bytes()), options.threads)

    return {
        FLOAT: built(Precision.FP32, in_integers=False),
        "INT8, first convolutions in float": built(Precision.INT8, in_integers=False),
        "INT8": built(Precision.INT8, in_integers=True),
    }


def main() -> None:
    """Measure the engines and publish the table."""
    compare(
        "image",
        str(__doc__),
        lambda bundle: f"{bundle.manifest.arch} with OpenVINO: the first convolutions",
        engines,
        rounds=40,
    )


if __name__ == "__main__":
    main()
