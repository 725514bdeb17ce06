"""Recording of a board during a benchmark: power, temperatures, clocks and throttling over time."""

from __future__ import annotations

import dataclasses
from typing import Any, Optional, Tuple


@dataclasses.dataclass(frozen=True)
class Series:
    """Values of one sensor, one for each instant of the recording; None for a failed reading.

    Attributes:
        name: name of the sensor, such as `VDD_IN`, `GPU-therm` or `gpu`.
        unit: W, degC or MHz.
        values: the values.
    """

    name: str
    unit: str
    values: Tuple[Optional[float], ...]


def build_series(document: Any) -> Series:
    """Build a series from its JSON value; 100 times faster than a check of every value by dacite.

    Raises:
        TypeError: the value is not a series.
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
    """Energy of the timed queries, from the input power of the board.

    Attributes:
        rail: the input rail, such as `VDD_IN`; several rails that were summed are joined by ` + `. The
            `package-0` of a PC is its processor alone.
        idle_w: mean power in W before anything ran; None if it was not measured.
        mean_w: mean power in W while queries were timed.
        joules_per_image: energy per image in J, idle power included.
        joules_per_image_above_idle: energy per image in J without the idle power.
    """

    rail: str
    idle_w: Optional[float]
    mean_w: float
    joules_per_image: float
    joules_per_image_above_idle: Optional[float]


@dataclasses.dataclass(frozen=True)
class Recording:
    """Samples of a board at nearly regular instants.

    Attributes:
        source: `sysfs`, `tegrastats` or `jtop`.
        hertz: achieved samples per second.
        cost_percent: CPU time of the sampling, in percent of one core.
        seconds: the instants in s since the recorder started; with gaps while other engines ran.
        power: rails in W.
        temperatures: sensors in degrees Celsius.
        clocks: clocks of GPU, memory and CPU in MHz.
        throttled: whether the board reduced its clocks while the engine was timed; None if it does not report
            this.
        throttle_reasons: the reasons, one short phrase each.
        energy: energy of the timed queries; None without a rail for the whole board, and for the graphics
            card of a PC.
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
        """The highest temperature of any sensor in degrees Celsius; None without a value."""
        values = (value for series in self.temperatures for value in series.values)
        return max((value for value in values if value is not None), default=None)
