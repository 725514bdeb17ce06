"""Compiles engines ahead of time with TensorRT-RTX, which needs no GPU for that."""

from __future__ import annotations

from typing import Any, List, Tuple

import numpy as np
import onnx
import pytest

from adq_edge.core.options import Target
from adq_edge.quantization.float_model import FloatModel
from adq_edge.quantization.passes.frame import run_passes
from adq_edge.quantization.passes.strong_typing import type_as_float16
from adq_edge.quantization.qdq import quantize
from adq_edge.runtimes.tensorrt.job import LayerReport
from adq_edge.runtimes.tensorrt.rtx_layers import KernelList
from factories.activations import measured_ranges

trt = pytest.importorskip("tensorrt_rtx", reason="pip install adq-edge[rtx]", exc_type=ImportError)


class RecordingLogger(trt.ILogger):
    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self.errors: List[str] = []
        self.kernels = KernelList()

    def log(self, severity: Any, message: str) -> None:
        self.kernels.read(message)
        if severity <= trt.ILogger.Severity.ERROR:
            self.errors.append(message)


def compile_engine(model: bytes, compute_capability: str, size: int, max_batch: int = 4) -> bytes:
    """Parse an ONNX model and build an engine for `SM86`, `SM89`, ...; fail with the builder's messages."""
    return _compile(model, compute_capability, size, max_batch)[0]


def compile_kernels(
    model: bytes, compute_capability: str, size: int, max_batch: int = 1
) -> Tuple[LayerReport, ...]:
    """Build an engine as `compile_engine` does, and return the kernels that the builder lists."""
    kernels = _compile(model, compute_capability, size, max_batch)[1].layers
    assert kernels is not None, "the list of kernels has another form"
    return kernels


def _compile(model: bytes, compute_capability: str, size: int, max_batch: int) -> Tuple[bytes, KernelList]:
    logger = RecordingLogger()
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    assert parser.parse(model), [parser.get_error(i).desc() for i in range(parser.num_errors)]
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.num_compute_capabilities = 1
    config.set_compute_capability(getattr(trt.ComputeCapability, compute_capability), 0)
    profile = builder.create_optimization_profile()
    shapes = [(n, size, size, 3) for n in (1, 1, max_batch)]
    profile.set_shape("image", *shapes)
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    assert plan is not None, logger.errors
    return bytes(plan), logger.kernels


def typed_integers(model: onnx.ModelProto, images: np.ndarray) -> onnx.ModelProto:
    """Return the graph of `build --int8` for a strongly typed TensorRT, with the ranges of a few images."""
    ranges = measured_ranges(model, images)
    return run_passes(quantize(FloatModel.of(model), ranges, Target.TENSORRT), (type_as_float16,))
