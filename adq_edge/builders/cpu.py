"""Engines for CPUs: ONNX files, which ONNX Runtime and OpenVINO both read."""

from __future__ import annotations

from pathlib import Path
from typing import Mapping, Optional, Tuple

import onnx

from adq_edge.artifacts.engine_file import EngineFile
from adq_edge.artifacts.ranges import WeightRounding
from adq_edge.builders.base import BuildInputs, BuildResult, EngineBuilder, describe_engine
from adq_edge.core.errors import BuildError
from adq_edge.core.files import temporary_folder
from adq_edge.core.options import Device, Precision, Sparsity
from adq_edge.core.plugins import import_attribute
from adq_edge.core.runtimes import ONNXRUNTIME, OPENVINO, TENSORRT_EMULATION, Runtime
from adq_edge.hardware.bfloat16 import why_no_bfloat16
from adq_edge.quantization.dynamic_ranges import float32_nodes
from adq_edge.quantization.float_model import FloatModel
from adq_edge.quantization.passes.frame import PassContext, run_passes
from adq_edge.quantization.passes.pipelines import Pipelines
from adq_edge.runtimes.base import Engine
from adq_edge.runtimes.cpu import CpuEngine
from adq_edge.runtimes.registry import engine_class, open_engine

_ALWAYS_BFLOAT16 = frozenset({"Conv", "ConvTranspose", "Einsum", "Gemm", "MatMul", "Resize"})
"""Operators that OpenVINO computes in bfloat16 behind the last convolution too."""

_EMULATE = f"To measure what it would cost, add --runtime {TENSORRT_EMULATION.name}"

_LAYERS = frozenset({"Convolution", "Deconvolution", "FullyConnected"})
"""OpenVINO's operators that multiply by weights."""


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
        self.target = engine.target
        self._passes: Pipelines = import_attribute(engine.passes)
        self._threads = threads

    def check_precision(self, precision: Precision) -> None:
        """Raise a BuildError if the runtime or this processor does not compute in a precision."""
        if precision not in self._passes:
            what = f"{self.runtime.label} has no {precision.value} convolutions on a CPU"
            fix = f"Add --runtime {OPENVINO.name}, or give --int8 or --fp32"
            raise BuildError(what, fix=_EMULATE if precision is Precision.FP8 else fix)
        missing = why_no_bfloat16() if precision is Precision.BF16 else None
        if missing is not None:
            raise BuildError(f"--bf16: {missing}", fix="Give --int8 or --fp32")

    def check_sparsity(self, sparsity: Optional[Sparsity]) -> None:
        """Raise a BuildError if the runtime gains nothing from sparse weights and emulates none."""
        if sparsity is not None and not self.runtime.is_emulation:
            what = f"{self.runtime.label} has no kernels for {sparsity.value} sparsity on a CPU"
            raise BuildError(what, fix=_EMULATE)

    def build(self, inputs: BuildInputs, path: Path) -> BuildResult:
        """Write the ONNX file and load it."""
        with self._write_and_open(inputs, path) as engine:
            operators = engine.operators()
        if inputs.precision is not Precision.INT8 or inputs.float_layers or self.runtime is not OPENVINO:
            return BuildResult(operators)
        return BuildResult(operators, notes=describe_openvino_kernels(operators))

    def open_candidate(self, inputs: BuildInputs) -> Engine:
        """Open the engine that `build` would write, in its runtime."""
        with temporary_folder() as folder:
            name = f"{inputs.bundle.manifest.name}-{inputs.precision.value}{self.suffix}"
            return self._write_and_open(inputs, folder / name)

    def _write_and_open(self, inputs: BuildInputs, path: Path) -> Engine:
        path.write_bytes(self._graph(inputs).SerializeToString())
        sidecar = describe_engine(self, inputs, path, path.stem)
        file = EngineFile(path, sidecar.engine_sha256)
        return open_engine(file, sidecar, self.runtime, self._threads)

    def _graph(self, inputs: BuildInputs) -> onnx.ModelProto:
        """Return the graph after the runtime's passes."""
        passes, calibrated = self._passes[inputs.precision], inputs.calibrated
        if calibrated is None:
            graph = run_passes(inputs.model.proto, passes)
            if inputs.precision is Precision.BF16:
                check_float_scoring(graph, inputs.model)
            return graph
        context = PassContext(
            self.target,
            calibrated.ranges.tensors,
            calibrated.rounded_weights,
            inputs.float_layers,
            trained=calibrated.ranges.rounding is WeightRounding.NEAREST,
            region=calibrated.float_model.region,
        )
        return run_passes(calibrated.float_model.proto, passes, context)


def describe_openvino_kernels(operators: Mapping[str, int]) -> Tuple[str, ...]:
    """Return a note if OpenVINO computes most layers of an INT8 engine in float, as on Arm; else nothing.

    Args:
        operators: number of operators of the engine, by `type:precision`.
    """
    kinds = ((*name.partition(":"), count) for name, count in operators.items())
    layers = [(precision, count) for layer, _, precision, count in kinds if layer in _LAYERS]
    integer, total = sum(n for kind, n in layers if kind in ("i8", "u8")), sum(n for _, n in layers)
    if 2 * integer >= total:
        return ()
    what = f"{OPENVINO.label} computes {integer} of {total} layers of this INT8 engine in integers here"
    return (f"{what}. {ONNXRUNTIME.label} may be faster: build it with --runtime {ONNXRUNTIME.name}",)


def check_float_scoring(graph: onnx.ModelProto, model: FloatModel) -> None:
    """Check that OpenVINO keeps the scoring of a bf16 engine in float32.

    Args:
        graph: the engine's graph.
        model: the bundle's model; the passes keep the names of its nodes.

    Raises:
        BuildError: the scoring has an operator that OpenVINO computes in bfloat16 wherever it stands.
    """
    scoring = set(float32_nodes(model))
    for node in graph.graph.node:
        if node.op_type in _ALWAYS_BFLOAT16 and node.name in scoring:
            what = f"its scoring has the operator {node.op_type}, which OpenVINO would compute in bfloat16"
            raise BuildError(f"--bf16: {what}", fix="Give --int8 or --fp32")
