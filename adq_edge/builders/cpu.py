"""Engines for CPUs: ONNX files, which ONNX Runtime and OpenVINO both read."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Optional

import onnx

from adq_edge.artifacts.ranges import WeightRounding
from adq_edge.builders.base import BuildInputs, BuildResult, EngineBuilder, describe_engine
from adq_edge.core.options import Device, Precision, Target, cpu_target
from adq_edge.core.runtimes import Runtime
from adq_edge.quantization.passes.conv_transpose import rewrite_transposed
from adq_edge.quantization.passes.float_weights import keep_float_weights
from adq_edge.quantization.passes.fp16_weights import store_weights_as_float16
from adq_edge.quantization.passes.normalization import widen_normalization
from adq_edge.quantization.passes.uint8_input import convolve_image_in_integers
from adq_edge.quantization.qdq import quantize
from adq_edge.runtimes.base import Engine
from adq_edge.runtimes.cpu import CpuEngine
from adq_edge.runtimes.registry import engine_class


class CpuEngineBuilder(EngineBuilder):
    """Builds engines for this machine's CPU.

    Args:
        runtime: the runtime that runs them by default.
        threads: CPU threads of an engine that is loaded here; all by default.

    Raises:
        MissingDependencyError: the runtime is not installed.
    """

    device = Device.CPU

    def __init__(self, runtime: Runtime, threads: Optional[int]) -> None:
        engine = engine_class(runtime)
        assert issubclass(engine, CpuEngine)
        self.runtime = runtime
        self.suffix = runtime.suffix
        self.version = engine.runtime_version
        self.target = cpu_target()
        self._engine = engine
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
        sidecar = describe_engine(self, inputs, path, path.stem)
        return self._engine(path, sidecar, self._threads)

    def _graph(self, inputs: BuildInputs) -> onnx.ModelProto:
        """Return the graph that suits the runtime."""
        graph = self._graph_in_precision(inputs)
        if self._engine.convolves_uint8 and self._convolves_image_in_integers(inputs):
            graph = convolve_image_in_integers(graph, inputs.float_layers)
        for rewrite in self._engine.passes:
            graph = rewrite(graph)
        return graph

    def _convolves_image_in_integers(self, inputs: BuildInputs) -> bool:
        """Return True for INT8, unless the first convolution was trained in float."""
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
