"""Calibrators by name: ours, and those that installed packages add.

A third party's calibrator is a class whose instances have `compute_range(histogram) -> (low, high)`,
announced in its package's metadata under the entry-point group `adq_edge.calibrators`. A complete one is
in `tests/example_calibrator/`.
"""

from __future__ import annotations

from typing import List, Protocol, Tuple

from adq_edge.calibration.calibrators.histogram import Histogram
from adq_edge.core.errors import CalibrationError
from adq_edge.core.plugins import load_factory, plugin_names

GROUP = "adq_edge.calibrators"

BUILT_IN = {
    "entropy": "adq_edge.calibration.calibrators.entropy:EntropyCalibrator",
    "lp": "adq_edge.calibration.calibrators.lp:LpCalibrator",
    "minmax": "adq_edge.calibration.calibrators.minmax:MinMaxCalibrator",
    "mse": "adq_edge.calibration.calibrators.mse:MSECalibrator",
    "percentile": "adq_edge.calibration.calibrators.percentile:PercentileCalibrator",
}


class Calibrator(Protocol):
    """Chooses a tensor's range from the histogram of its values; a pure function."""

    def compute_range(self, histogram: Histogram) -> Tuple[float, float]:
        """Return (low, high) in the tensor's units, low <= 0 <= high, within the data's range."""


def calibrator_names() -> List[str]:
    """Return the names of all calibrators, ours and installed ones."""
    return plugin_names(GROUP, BUILT_IN)


def make_calibrator(spec: str) -> Calibrator:
    """Make a calibrator from its name, or from `name:value` for one that takes a number.

    Raises:
        CalibrationError: no such calibrator, or one that cannot be loaded or takes no such value.
    """
    name, colon, value = spec.partition(":")
    factory = load_factory("calibrator", name, GROUP, BUILT_IN)
    try:
        calibrator: Calibrator = factory(float(value)) if colon else factory()
    except Exception as error:  # a third party's can fail in any way
        raise CalibrationError(f"calibrator {spec!r} cannot be made ({error})") from error
    return calibrator
