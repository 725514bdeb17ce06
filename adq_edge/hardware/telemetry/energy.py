"""Energy of timed work from a rail's power over time: integrated over an engine's windows only."""

from __future__ import annotations

import dataclasses
from typing import Optional, Sequence, Tuple

import numpy as np

from adq_edge.hardware.telemetry.rails import input_rails
from adq_edge.hardware.telemetry.recording import Energy
from adq_edge.hardware.telemetry.sample import Values


@dataclasses.dataclass(frozen=True)
class Window:
    """An interval of time, in seconds of the recorder's clock."""

    start: float
    end: float

    def __contains__(self, instant: float) -> bool:
        return self.start <= instant <= self.end

    def overlaps(self, after: float, until: float) -> bool:
        """Whether any time after one instant and up to another lies in it."""
        return until >= self.start and after < self.end


def measure_energy(
    instants: Sequence[float],
    power: Sequence[Values],
    windows: Sequence[Window],
    idle: Sequence[Window],
    averages: bool,
    images: int,
    seconds: float,
    on_gpu: bool = False,
) -> Optional[Energy]:
    """Work out the energy per image of what ran in some windows.

    Args:
        instants: of the readings, in seconds, rising.
        power: the readings, rails in W.
        windows: in which the images were computed.
        idle: in which nothing ran.
        averages: whether a reading is the mean since the one before.
        images: how many were computed.
        seconds: how long the timed calls took in all.
        on_gpu: whether a GPU computed them.

    Returns:
        None without images, without a rail for what computed them, or without a reading in the windows.
    """
    rails = input_rails(tuple(dict.fromkeys(name for values in power for name in values)), on_gpu)
    total = [_total(values, rails) for values in power]
    mean_w = mean_power(instants, total, windows, averages)
    if mean_w is None or not rails or images <= 0:
        return None
    idle_w = mean_power(instants, total, idle, averages)
    return Energy(
        rail=" + ".join(rails),
        idle_w=idle_w,
        mean_w=mean_w,
        joules_per_image=mean_w * seconds / images,
        joules_per_image_above_idle=None if idle_w is None else (mean_w - idle_w) * seconds / images,
    )


def mean_power(
    instants: Sequence[float], power: Sequence[Optional[float]], windows: Sequence[Window], averages: bool
) -> Optional[float]:
    """Return the mean power over windows, in W; None if there is no reading in any.

    Between readings inside a window power runs straight (trapezoidal rule); from its start to its first
    reading and from its last to its end it stays. What was read outside counts for nothing: that may be
    another engine's. Means since the reading before count only where that one is inside the window too.

    Args:
        instants: of the readings, in seconds, rising.
        power: the readings in W; None where one failed.
        windows: where to integrate.
        averages: whether a reading is the mean since the one before that did not fail.
    """
    kept = [(t, watts) for t, watts in zip(instants, power) if watts is not None]
    times, watts = np.array([t for t, _ in kept]), np.array([w for _, w in kept])
    joules = covered = 0.0
    for window in windows:
        inside = slice(*np.searchsorted(times, (window.start, np.nextafter(window.end, np.inf))))
        found = _integrate(times[inside], watts[inside], window, averages)
        if found is not None:
            joules, covered = joules + found[0], covered + found[1]
    return joules / covered if covered > 0 else None


def _integrate(
    times: np.ndarray, watts: np.ndarray, window: Window, averages: bool
) -> Optional[Tuple[float, float]]:
    """Return the energy in J and the seconds it is for."""
    if averages:
        steps = np.diff(times)
        return (float((watts[1:] * steps).sum()), float(steps.sum())) if steps.size else None
    if not times.size:
        return None
    edges = np.concatenate([[window.start], times, [window.end]])
    heights = np.concatenate([watts[:1], watts, watts[-1:]])
    joules = float((np.diff(edges) * (heights[1:] + heights[:-1])).sum() / 2)
    return joules, window.end - window.start


def _total(values: Values, rails: Sequence[str]) -> Optional[float]:
    watts = [values.get(rail) for rail in rails]
    known = [value for value in watts if value is not None]
    return sum(known) if known and len(known) == len(watts) else None
