"""What was recorded of a board while it worked: power, temperatures, clocks and throttling over time."""

from __future__ import annotations

import dataclasses
from typing import Any, Optional, Tuple


@dataclasses.dataclass(frozen=True)
class Series:
    """One sensor's readings, one per instant of the recording; None where a reading failed.

    Attributes:
        name: the sensor's name, `VDD_IN`, `GPU-therm` or `gpu` for example.
        unit: W, degC or MHz.
        values: the readings.
    """

    name: str
    unit: str
    values: Tuple[Optional[float], ...]


def build_series(document: Any) -> Series:
    """Make a series of its JSON, in a hundredth of the time that a check type by type takes.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(document, dict) or not isinstance(document.get("values"), tuple):
        raise TypeError("a series has a list of values")
    name, unit, values = document.get("name"), document.get("unit"), document["values"]
    if not (isinstance(name, str) and isinstance(unit, str)):
        raise TypeError("a series has a name and a unit")
    if not {type(value) for value in values} <= {int, float, type(None)}:
        raise TypeError(f"the values of {name} are not all numbers")
    return Series(name, unit, tuple(None if value is None else float(value) for value in values))


@dataclasses.dataclass(frozen=True)
class Energy:
    """What a board's input power says about the timed queries.

    Attributes:
        rail: the rail that the board is fed through, `VDD_IN` for example; where there is no such rail, those
            that were summed, joined by ` + `. A PC's `package-0` is its processor alone.
        idle_w: mean power before anything ran; None if that was not measured.
        mean_w: mean power while queries were timed.
        joules_per_image: energy per image, idle power included.
        joules_per_image_above_idle: the same without what the idle board takes.
    """

    rail: str
    idle_w: Optional[float]
    mean_w: float
    joules_per_image: float
    joules_per_image_above_idle: Optional[float]


@dataclasses.dataclass(frozen=True)
class Recording:
    """Readings of a board at (nearly) regular instants.

    Attributes:
        source: where they come from: `sysfs`, `tegrastats` or `jtop`.
        hertz: readings per second that were reached.
        cost_percent: share of one CPU core that reading took, in percent.
        seconds: the instants in seconds from when the recorder started; with gaps where other engines ran.
        power: rails, in W.
        temperatures: sensors, in degrees Celsius.
        clocks: GPU, memory and CPU clocks, in MHz.
        throttled: whether the board lowered its clocks while anything was timed on the engine; None if it
            does not tell.
        throttle_reasons: why, one short phrase each.
        energy: of the timed queries; None without a rail for the whole board, and for a PC's graphics card.
    """

    source: str
    hertz: float
    cost_percent: float
    seconds: Tuple[float, ...]
    power: Tuple[Series, ...]
    temperatures: Tuple[Series, ...]
    clocks: Tuple[Series, ...]
    throttled: Optional[bool]
    throttle_reasons: Tuple[str, ...]
    energy: Optional[Energy] = None

    @property
    def hottest(self) -> Optional[float]:
        """The highest temperature of any sensor; None without a reading."""
        readings = (value for series in self.temperatures for value in series.values)
        return max((value for value in readings if value is not None), default=None)
