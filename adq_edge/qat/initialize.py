"""The start of quantization-aware training: the model quantized after training, as by `build`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Tuple

from onnx import numpy_helper

from adq_edge.artifacts.ranges import Ranges, WeightRounding
from adq_edge.calibration.calibrated_model import CalibratedModel, calibrate_model
from adq_edge.calibration.sources import CalibrationSource
from adq_edge.calibration.trained_ranges import QAT
from adq_edge.core.files import temporary_folder
from adq_edge.core.options import DEFAULT_CALIBRATOR, Arithmetic
from adq_edge.models.base import AnomalyModel
from adq_edge.models.checkpoint import save_checkpoint
from adq_edge.onnx_export.export import export
from adq_edge.qat.batch_norm_folding import fold_batch_norms
from adq_edge.qat.quantized_model import write_back
from adq_edge.qat.weight_tracing import trace
from adq_edge.quantization.float_model import FloatModel
from adq_edge.quantization.passes.frame import PassContext, run_passes
from adq_edge.quantization.passes.grid_weights import put_weights_on_grid


def quantize_after_training(
    model: AnomalyModel, arithmetic: Arithmetic, source: CalibrationSource, data: Path
) -> Tuple[AnomalyModel, Ranges]:
    """Fold a model's BatchNorms, calibrate it and put its weights on their integer grid.

    Args:
        model: the model, changed in place.
        arithmetic: the arithmetic of the engine.
        source: the calibration images.
        data: dataset folder with images to check the export on.

    Returns:
        The model, and the ranges and equalization to train from.

    Raises:
        CheckpointError: the model cannot be folded, or its weights are not found in its graph.
        CalibrationError: an activation is not finite.
    """
    fold_batch_norms(model)
    traced = trace(model)
    calibrated = _calibrate(model, source, data)
    context = PassContext(rounding=calibrated.rounded_weights)
    rounded = run_passes(calibrated.float_model.proto, (put_weights_on_grid,), context)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in rounded.graph.initializer}
    write_back(model, constants, traced, calibrated.ranges.equalization)
    ranges = dataclasses.replace(
        calibrated.ranges,
        model_sha256="",  # written when the trained model is exported
        calibrator=QAT,
        rounding=WeightRounding.NEAREST,
        arithmetic=arithmetic,
    )
    return model, ranges


def _calibrate(model: AnomalyModel, source: CalibrationSource, data: Path) -> CalibratedModel:
    """Calibrate the model in a temporary bundle."""
    with temporary_folder() as folder:
        checkpoint = folder / "folded.pt"
        save_checkpoint(checkpoint, model, {})
        bundle = export(checkpoint, folder / "bundle", data=data)
        return calibrate_model(bundle, FloatModel.load(bundle), DEFAULT_CALIBRATOR, source)
