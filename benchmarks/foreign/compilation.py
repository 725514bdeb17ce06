"""Compile an imported model in each precision with TensorRT-RTX, and name what it does not take."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Dict

from adq_edge.artifacts.bundle import Bundle
from adq_edge.builders.base import BuildInputs
from adq_edge.builders.tensorrt_graphs import make_graph
from adq_edge.calibration.calibrated_model import calibrate_model
from adq_edge.calibration.sources import image_source
from adq_edge.core.options import DEFAULT_CALIBRATOR, Precision, Route
from adq_edge.quantization.float_model import FloatModel

if TYPE_CHECKING:
    from benchmarks.foreign.measuring import Settings

_LONGEST_LINE = 300


def compile_precisions(bundle: Bundle, data: Path, settings: Settings) -> Dict[str, str]:
    """Return "compiled" or the builder's message for FP32 and INT8.

    Args:
        bundle: the imported model.
        data: folder of images to calibrate on.
        settings: the compute capability and the number of calibration images.
    """
    found: Dict[str, str] = {}
    for precision in (Precision.FP32, Precision.INT8):
        try:
            _compile(bundle, precision, data, settings)
        except Exception as error:
            found[precision.value] = f"{error}".replace("\n", " ")[:_LONGEST_LINE] or type(error).__name__
        else:
            found[precision.value] = "compiled"
    return found


def _compile(bundle: Bundle, precision: Precision, data: Path, settings: Settings) -> None:
    from factories.rtx import compile_engine

    model = FloatModel.load(bundle)
    prepared = None
    if precision is Precision.INT8:
        prepared = calibrate_model(bundle, model, DEFAULT_CALIBRATOR, image_source(data, settings.samples))
    graph = make_graph(BuildInputs(bundle, precision, model, prepared), Route.TYPED).model
    assert settings.compute_capability is not None
    compile_engine(
        graph.SerializeToString(), settings.compute_capability, bundle.manifest.image_size[0], max_batch=1
    )
