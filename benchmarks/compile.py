"""Compile the whole graph of each method, in each precision, with a real TensorRT builder.

    python -m benchmarks.compile BUNDLE ... --data ../shared/data/inspection

The graphs are the strongly typed ones that `build --device cuda` passes to TensorRT 10 or later and to
TensorRT-RTX. The builder is TensorRT-RTX, which compiles for a named GPU on a machine without one. A compiled
engine has not run: see docs/run-where.md. Writes benchmarks/published/NAME.json and .md (`compile`
by default, so that tables of several bundles can be kept).
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any, Dict, List

from adq_edge.artifacts.bundle import Bundle, open_bundle
from adq_edge.builders.base import BuildInputs
from adq_edge.builders.tensorrt_graphs import make_graph
from adq_edge.calibration.calibrated_model import calibrate_model
from adq_edge.calibration.sources import image_source
from adq_edge.core.options import DEFAULT_CALIBRATOR, Precision, Route
from adq_edge.hardware.environment import read_environment
from adq_edge.quantization.float_model import FloatModel
from benchmarks.published import publish
from factories.rtx import compile_engine, trt

GPUS = ("SM86", "SM120")


def compile_bundle(bundle: Bundle, data: Path, samples: int, gpu: str) -> List[Dict[str, Any]]:
    """Compile a bundle's model in each precision.

    Raises:
        AssertionError: the builder refuses it; contains the builder's message.
    """
    model = FloatModel.load(bundle)
    height, width = bundle.manifest.image_size
    assert height == width, "the profile of these compilations is square"
    rows = []
    for precision in (Precision.FP32, Precision.FP16, Precision.INT8):
        prepared = None
        if precision is Precision.INT8:
            source = image_source(data, samples)
            prepared = calibrate_model(bundle, model, DEFAULT_CALIBRATOR, source)
        graph = make_graph(BuildInputs(bundle, precision, model, prepared), Route.TYPED).model
        started = time.monotonic()
        plan = compile_engine(graph.SerializeToString(), gpu, height, max_batch=1)
        row = {
            "bundle": bundle.manifest.name,
            "arch": bundle.manifest.arch,
            "options": bundle.manifest.options,
            "precision": precision.value,
            "gpu": gpu,
            "nodes": len(graph.graph.node),
            "graph_mb": graph.ByteSize() / 1e6,
            "plan_mb": len(plan) / 1e6,
            "seconds": time.monotonic() - started,
        }
        print(row, flush=True)
        rows.append(row)
    return rows


def main() -> None:
    """Compile the graphs and publish the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundles", nargs="+", type=Path, help="bundles of `adq-edge export`")
    parser.add_argument("--data", type=Path, required=True, help="folder of images to calibrate on")
    parser.add_argument("--samples", type=int, default=16, help="images to calibrate on")
    parser.add_argument("--name", default="compile", help="name of the published table")
    arguments = parser.parse_args()
    rows = [
        row
        for path in arguments.bundles
        for gpu in GPUS
        for row in compile_bundle(open_bundle(path), arguments.data, arguments.samples, gpu)
    ]
    publish(
        arguments.name,
        f"Whole graphs compiled with TensorRT-RTX {trt.__version__}, 256x256, batch 1",
        ["model", "precision", "GPU", "nodes", "graph MB", "plan MB", "compiled in s"],
        [
            [
                row["bundle"],
                row["precision"],
                row["gpu"],
                str(row["nodes"]),
                f"{row['graph_mb']:.1f}",
                f"{row['plan_mb']:.1f}",
                f"{row['seconds']:.0f}",
            ]
            for row in rows
        ],
        {"tensorrt_rtx": trt.__version__, "compilations": rows},
        read_environment(),
    )


if __name__ == "__main__":
    main()
