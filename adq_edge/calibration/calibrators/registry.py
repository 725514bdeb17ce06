"""Calibrators by name: built-in ones, and those of installed packages.

A package adds a calibrator through the entry-point group `adq_edge.calibrators`: a class with
`compute_range(histogram) -> (low, high)`. A complete example is in `examples/calibrator/`.
"""

from __future__ import annotations

from typing import Protocol, Tuple

from adq_edge.calibration.calibrators.histogram import Histogram
from adq_edge.core.plugins import load_factory, plugin_errors

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
    with plugin_errors(f"calibrator {spec!r} cannot be made"):
        calibrator: Calibrator = factory(float(value)) if colon else factory()
        return calibrator
