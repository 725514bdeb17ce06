"""Calibrators by name: built-in ones, and those of installed packages.

A package adds a calibrator through the entry-point group `adq_edge.calibrators`: a class with
`compute_range(histogram) -> (low, high)`. A complete example is in `examples/calibrator/`.
"""

from __future__ import annotations

import inspect
from typing import Protocol, Tuple

from adq_edge.calibration.calibrators.histogram import Histogram
from adq_edge.core.errors import CalibrationError
from adq_edge.core.plugins import Factory, load_factory, plugin_errors

GROUP = "adq_edge.calibrators"

BUILT_IN = {
    "entropy": "adq_edge.calibration.calibrators.entropy:EntropyCalibrator",
    "lp": "adq_edge.calibration.calibrators.lp:LpCalibrator",
    "minmax": "adq_edge.calibration.calibrators.minmax:MinMaxCalibrator",
    "mse": "adq_edge.calibration.calibrators.mse:MSECalibrator",
    "percentile": "adq_edge.calibration.calibrators.percentile:PercentileCalibrator",
}


class Calibrator(Protocol):
    """Chooses the range of a tensor from the histogram of its values."""

    def compute_range(self, histogram: Histogram) -> Tuple[float, float]:
        """Return (low, high) in the tensor's units, with low <= 0 <= high."""


def make_calibrator(spec: str) -> Calibrator:
    """Make a calibrator from `name`, or from `name:value` with a number.

    Raises:
        CalibrationError: no such calibrator, its package is broken, or the value is not allowed.
    """
    name, colon, value = spec.partition(":")
    factory = load_factory("calibrator", name, GROUP, BUILT_IN)
    arguments = [_number(name, value, factory)] if colon else []
    with plugin_errors(f"calibrator {spec!r} cannot be made"):
        calibrator: Calibrator = factory(*arguments)
        return calibrator


def _number(name: str, value: str, factory: Factory) -> float:
    """Return the value after the colon as a number."""
    if name in BUILT_IN and not inspect.signature(factory).parameters:
        raise CalibrationError(f"calibrator {name!r} takes no value", fix=f"Give {name} alone")
    try:
        return float(value)
    except ValueError:
        raise CalibrationError(
            f"calibrator {name!r}: {value!r} is not a number", fix=f"Give {name}:NUMBER, or {name} alone"
        ) from None
