"""Calibrators by name: ours, and those that installed packages add.

A third party's calibrator is a class whose instances have `compute_range(histogram) -> (low, high)`,
announced in its package's metadata under the entry-point group `adq_edge.calibrators`.
"""

from __future__ import annotations

from importlib import import_module, metadata
from typing import Any, Callable, Dict, List, Protocol, Tuple

from adq_edge.calibration.histogram import Histogram
from adq_edge.errors import CalibrationError

GROUP = "adq_edge.calibrators"

_BUILT_IN = {
    "entropy": "adq_edge.calibration.entropy:EntropyCalibrator",
    "minmax": "adq_edge.calibration.minmax:MinMaxCalibrator",
    "mse": "adq_edge.calibration.mse:MSECalibrator",
    "percentile": "adq_edge.calibration.percentile:PercentileCalibrator",
}


class Calibrator(Protocol):
    """Chooses a tensor's range from the histogram of its values; a pure function."""

    def compute_range(self, histogram: Histogram) -> Tuple[float, float]:
        """Return (low, high) in the tensor's units, low <= 0 <= high, within the data's range."""


def calibrator_names() -> List[str]:
    """Return the names of all calibrators, ours and installed ones."""
    return sorted({*_BUILT_IN, *_installed()})


def make_calibrator(spec: str) -> Calibrator:
    """Make a calibrator from its name, or from `name:value` for one that takes a number.

    Raises:
        CalibrationError: no such calibrator, or one that cannot be loaded or takes no such value.
    """
    name, _, value = spec.partition(":")
    factories: Dict[str, Callable[[], Callable[..., Calibrator]]] = {
        **_installed(),
        **{key: _loader(path) for key, path in _BUILT_IN.items()},
    }
    if name not in factories:
        raise CalibrationError(
            f"no calibrator named {name!r}", fix=f"There are: {', '.join(calibrator_names())}"
        )
    try:
        factory = factories[name]()
        return factory(float(value)) if value else factory()
    except (TypeError, ValueError) as error:
        raise CalibrationError(f"calibrator {spec!r} cannot be made ({error})") from error
    except (ImportError, AttributeError) as error:
        raise CalibrationError(
            f"calibrator {name!r} cannot be loaded ({error})", fix="Repair its package"
        ) from error


def _loader(path: str) -> Callable[[], Callable[..., Calibrator]]:
    module, _, attribute = path.partition(":")

    def load() -> Callable[..., Calibrator]:
        factory: Callable[..., Calibrator] = getattr(import_module(module), attribute)
        return factory

    return load


def _installed() -> Dict[str, Callable[[], Callable[..., Calibrator]]]:
    points: Any = metadata.entry_points()  # a plain dictionary before Python 3.10
    group = points.select(group=GROUP) if hasattr(points, "select") else points.get(GROUP, [])
    return {point.name: point.load for point in group}
