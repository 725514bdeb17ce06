"""Engines for CPUs: ONNX files, which ONNX Runtime and OpenVINO both read."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Optional

import onnx

from adq_edge.artifacts.ranges import WeightRounding
from adq_edge.builders.base import BuildInputs, BuildResult, EngineBuilder, describe_engine
from adq_edge.core.options import Device, Precision, RuntimeName, Target, cpu_target
from adq_edge.quantization.passes.channels_last import score_channels_last
from adq_edge.quantization.passes.conv_transpose import lay_out_blocks, rewrite_transposed
from adq_edge.quantization.passes.float_weights import keep_float_weights
from adq_edge.quantization.passes.fp16_weights import store_weights_as_float16
from adq_edge.quantization.passes.leaky_relu import split_leaky_relus
from adq_edge.quantization.passes.normalization import normalize_channels_last, widen_normalization
from adq_edge.quantization.passes.redundant_qdq import drop_repeated_pairs
from adq_edge.quantization.passes.uint8_input import convolve_image_in_integers
from adq_edge.quantization.qdq import quantize
from adq_edge.runtimes.base import Engine
from adq_edge.runtimes.registry import open_engine, runtime_version


class CpuEngineBuilder(EngineBuilder):
    """Builds engines for this machine's CPU.

    Args:
        runtime: the runtime that runs them by default.
        threads: CPU threads of an engine that is loaded here; all by default.

    Raises:
        MissingDependencyError: the runtime is not installed.
    """

    device = Device.CPU
    suffix = ".onnx"

    def __init__(self, runtime: RuntimeName, threads: Optional[int]) -> None:
        self.runtime = runtime
        self.version = runtime_version(runtime)
        self.target = cpu_target()
        self._threads = threads

    def build(self, inputs: BuildInputs, path: Path) -> BuildResult:
        """Write the ONNX file and load it."""
        with self._write_and_open(inputs, path) as engine:
            return BuildResult(engine.operators())

    def open_candidate(self, inputs: BuildInputs) -> Engine:
        """Open the engine that `build` would write, in its runtime."""
        with tempfile.TemporaryDirectory() as folder:
            name = f"{inputs.bundle.manifest.name}-{inputs.precision.value}{self.suffix}"
            return self._write_and_open(inputs, Path(folder) / name)

    def _write_and_open(self, inputs: BuildInputs, path: Path) -> Engine:
        path.write_bytes(self._graph(inputs).SerializeToString())
        sidecar = describe_engine(self, inputs.bundle, path, inputs.precision, path.stem)
        return open_engine(path, sidecar, self.runtime, self._threads)

    def _graph(self, inputs: BuildInputs) -> onnx.ModelProto:
        """Return the graph that suits the runtime."""
        graph = self._graph_in_precision(inputs)
        if self.runtime is RuntimeName.ONNXRUNTIME:
            return score_channels_last(lay_out_blocks(split_leaky_relus(graph)))
        if self._convolves_image_in_integers(inputs):
            graph = convolve_image_in_integers(graph, inputs.float_layers)
        return drop_repeated_pairs(normalize_channels_last(graph))

    def _convolves_image_in_integers(self, inputs: BuildInputs) -> bool:
        """Return True for INT8 on OpenVINO, unless the first convolution was trained in float."""
        calibrated = inputs.calibrated
        if inputs.precision is not Precision.INT8 or calibrated is None or self.target is not Target.X86:
            return False
        return calibrated.ranges.rounding is not WeightRounding.NEAREST

    def _graph_in_precision(self, inputs: BuildInputs) -> onnx.ModelProto:
        """Return the graph in its number format, in the layout of the export."""
        calibrated = inputs.calibrated
        if inputs.precision is Precision.FP16:
            return store_weights_as_float16(inputs.model.proto)
        if inputs.precision is Precision.FP32 or calibrated is None:
            return inputs.model.proto
        rewritten = rewrite_transposed(calibrated.float_model, calibrated.rounded_weights)
        quantized = quantize(
            rewritten.model,
            calibrated.ranges.tensors,
            self.target,
            rounding=rewritten.rounding,
            float_layers=inputs.float_layers,
        )
        return keep_float_weights(widen_normalization(quantized))
