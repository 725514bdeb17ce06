"""Energy of timed work: the power of the input rails, integrated over the windows of an engine."""

from __future__ import annotations

import dataclasses
from typing import Optional, Sequence, Tuple

import numpy as np

from adq_edge.hardware.telemetry.rails import input_rails
from adq_edge.hardware.telemetry.recording import Energy
from adq_edge.hardware.telemetry.sample import Values


@dataclasses.dataclass(frozen=True)
class Window:
    """An interval on the recorder's clock in s."""

    start: float
    end: float

    def __contains__(self, instant: float) -> bool:
        return self.start <= instant <= self.end

    def overlaps(self, after: float, until: float) -> bool:
        """Return True if the interval (after, until] overlaps this window."""
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
    """Compute the energy per image of the work in windows.

    Args:
        instants: times of the samples in s, increasing.
        power: the rails of each sample in W.
        windows: intervals in which the images were computed.
        idle: intervals in which nothing ran.
        averages: whether a power value is the mean since the previous sample.
        images: number of computed images.
        seconds: total duration of the timed calls.
        on_gpu: whether a GPU computed the images.

    Returns:
        None without images, without a rail that feeds the processor or GPU, or without a sample in the
        windows.
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
    """Return the mean power over windows in W; None without a sample in them.

    Between the samples of a window the power is linear (trapezoidal rule); before the first and after the
    last sample it is constant. Samples outside do not count, because another engine may run there. A mean
    since the previous sample counts only if that sample is inside the window too.

    Args:
        instants: times of the samples in s, increasing.
        power: power of each sample in W; None for a failed sample.
        windows: intervals to integrate over.
        averages: whether a power value is the mean since the last sample that did not fail.
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
    """Return the energy in J and its duration in s; None without a sample."""
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
