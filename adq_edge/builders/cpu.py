"""Engines for CPUs: ONNX files, which ONNX Runtime and OpenVINO both read."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Collection, Optional

import onnx

from adq_edge.artifacts.bundle import Bundle
from adq_edge.artifacts.ranges import WeightRounding
from adq_edge.builders.base import BuildInputs, BuildResult, EngineBuilder, describe
from adq_edge.calibration.calibrated_model import CalibratedModel
from adq_edge.core.files import write_bytes
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
    """Makes engines for this machine's CPU.

    Args:
        runtime: what runs them when nothing else is asked for.
        threads: CPU threads of the candidates; all by default.

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

    def make(self, ingredients: BuildInputs, path: Path) -> BuildResult:
        """Write the ONNX file and load it: one that does not load is none."""
        path.write_bytes(self._model(ingredients).SerializeToString())
        sidecar = describe(self, ingredients.bundle, path, ingredients.precision, path.stem)
        with open_engine(path, sidecar, self.runtime, self._threads) as engine:
            return BuildResult(engine.operators())

    def open_candidate(
        self, bundle: Bundle, prepared: CalibratedModel, float_layers: Optional[Collection[str]]
    ) -> Engine:
        """Open the engine that `make` would write, in its runtime."""
        precision = Precision.FP32 if float_layers is None else Precision.INT8
        model = onnx.load(str(bundle.model))
        ingredients = BuildInputs(bundle, precision, model, prepared, tuple(float_layers or ()))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{bundle.manifest.name}-{precision.value}{self.suffix}"
            write_bytes(path, self._model(ingredients).SerializeToString())
            sidecar = describe(self, bundle, path, precision, path.stem)
            return open_engine(path, sidecar, self.runtime, self._threads)

    def _model(self, ingredients: BuildInputs) -> onnx.ModelProto:
        model = self._numbers(ingredients)
        if self.runtime is RuntimeName.ONNXRUNTIME:
            return score_channels_last(lay_out_blocks(split_leaky_relus(model)))
        if self._reads_integers(ingredients):
            model = convolve_image_in_integers(model, ingredients.float_layers)
        return drop_repeated_pairs(normalize_channels_last(model))

    def _reads_integers(self, ingredients: BuildInputs) -> bool:
        """Return True if OpenVINO is to convolve the image in integers: not where it was trained in float."""
        prepared = ingredients.prepared
        if ingredients.precision is not Precision.INT8 or prepared is None or self.target is not Target.X86:
            return False
        return prepared.ranges.rounding is not WeightRounding.NEAREST

    def _numbers(self, ingredients: BuildInputs) -> onnx.ModelProto:
        """Return the model in its number format, laid out as it was exported."""
        prepared = ingredients.prepared
        if ingredients.precision is Precision.FP16:
            return store_weights_as_float16(ingredients.model)
        if ingredients.precision is Precision.FP32 or prepared is None:
            return ingredients.model
        rewritten = rewrite_transposed(widen_normalization(prepared.model), prepared.rounding)
        quantized = quantize(
            rewritten.model,
            prepared.ranges.tensors,
            self.target,
            rounding=rewritten.rounding,
            float_layers=ingredients.float_layers,
        )
        return keep_float_weights(quantized)
