"""Leaky ReLUs in INT8 with and without a Q/DQ pair on their input: quality and time.

    python -m benchmarks.leaky --bundle BUNDLE --data DIR [--samples 64] [--limit N] [--rounds 15]

For a bundle of Uninformed Students. The engines of `build` round only the output of a leaky ReLU; with the
pair, its input is rounded too. Without the pair, ONNX Runtime computes the two sides by two convolutions,
OpenVINO by one. Times are medians of interleaved rounds. Writes benchmarks/published/leaky.json and .md.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Dict

import onnx
import openvino

from adq_edge.artifacts.bundle import Bundle
from adq_edge.builders.build import build
from adq_edge.calibration.calibrated_model import CalibratedModel, calibrate_model
from adq_edge.calibration.sources import image_source
from adq_edge.core.options import DEFAULT_CALIBRATOR, Precision, Target
from adq_edge.quantization.arithmetic import GRIDS, scale_and_zero_point
from adq_edge.quantization.float_model import FloatModel
from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.passes.channels_last import score_channels_last
from adq_edge.quantization.passes.float_weights import keep_float_weights
from adq_edge.quantization.passes.frame import PassContext, run_passes
from adq_edge.quantization.passes.wide_normalization import widen_normalization
from adq_edge.quantization.qdq import quantize
from adq_edge.quantization.range_propagation import complete_ranges
from benchmarks.contenders import Run, onnxruntime_engine, openvino_engine
from benchmarks.engine_table import compare

FLOAT = "FP32, ONNX Runtime"


def with_pair_in_front(prepared: CalibratedModel) -> onnx.ModelProto:
    """Return the INT8 model for ONNX Runtime that rounds the input of leaky ReLUs too."""
    float_model, rounding = prepared.float_model, prepared.rounded_weights
    ranges = complete_ranges(float_model.region, prepared.ranges.tensors)
    quantized = quantize(float_model, prepared.ranges.tensors, Target.X86, rounding=rounding)

    def round_inputs(editor: GraphEditor, context: PassContext) -> None:
        for node in editor.of_type("LeakyRelu"):
            tensor = node.input[0]
            grid = scale_and_zero_point(*ranges[tensor], GRIDS[Target.X86])
            editor.rewire(node, [editor.add_pair(tensor, *grid)])

    passes = (round_inputs, widen_normalization, keep_float_weights, score_channels_last)
    return run_passes(quantized, passes)


def engines(bundle: Bundle, options: argparse.Namespace) -> Dict[str, Run]:
    """Return the engines by name, FP32 first."""
    source = image_source(options.data, options.samples)
    model, threads = FloatModel.load(bundle), options.threads
    prepared = calibrate_model(bundle, model, DEFAULT_CALIBRATOR, source, threads=threads)
    built: Dict[str, onnx.ModelProto] = {}
    with tempfile.TemporaryDirectory() as folder:
        for runtime in ("onnxruntime", "openvino"):
            path = build(
                bundle.path,
                Path(folder) / f"{runtime}.onnx",
                precision=Precision.INT8,
                runtime=runtime,
                calib_data=options.data,
                samples=options.samples,
                threads=options.threads,
            ).path
            built[runtime] = onnx.load(str(path))
    ours = built["openvino"].SerializeToString()
    core = openvino.Core()
    in_onnxruntime = {
        FLOAT: onnx.load(str(bundle.model)),
        "INT8, a pair in front, ONNX Runtime": with_pair_in_front(prepared),
        "INT8, ONNX Runtime": built["onnxruntime"],
    }
    return {
        **{
            name: onnxruntime_engine(model, Target.X86, options.threads)
            for name, model in in_onnxruntime.items()
        },
        "INT8, OpenVINO": openvino_engine(core.read_model(ours), options.threads),
    }


def main() -> None:
    """Measure the engines and publish the table."""
    title = "Uninformed Students: rounding around a leaky ReLU"
    compare("leaky", str(__doc__), lambda bundle: title, engines, rounds=15)


if __name__ == "__main__":
    main()
