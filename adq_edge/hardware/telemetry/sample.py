"""One sample of a board's sensors, and the protocol of its sources: sysfs, tegrastats and jtop."""

from __future__ import annotations

import dataclasses
from typing import Dict, Optional, Protocol, Tuple

Values = Dict[str, Optional[float]]
"""Values by sensor name; None for a sensor that failed."""

_MHZ = (10.0, 10_000.0)
"""From the slowest memory clock of a Jetson to above the fastest clock of any processor."""
_WATTS = (-10.0, 2_000.0)
"""A current sensor without a load may report slightly less than 0."""


def plausible_mhz(mhz: Optional[float]) -> Optional[float]:
    """Return a clock in MHz; None if it is outside the range of all boards: its unit is not MHz."""
    return mhz if mhz is not None and _MHZ[0] <= mhz <= _MHZ[1] else None


def plausible_clocks(clocks: Values) -> Values:
    """Return clocks in MHz, with None for an impossible one; 0 is the clock of a part without power."""
    return {name: mhz if mhz == 0 else plausible_mhz(mhz) for name, mhz in clocks.items()}


def plausible_power(watts: Values) -> Values:
    """Return powers in W, with None for an impossible one."""
    low, high = _WATTS
    return {name: one if one is not None and low <= one <= high else None for name, one in watts.items()}


@dataclasses.dataclass(frozen=True)
class TelemetrySample:
    """Values of all sensors at one instant; a dictionary is empty if the board lacks its sensors.

    Attributes:
        power: rails in W.
        temperatures: sensors in degrees Celsius.
        clocks: `gpu`, `emc`, `cpu0` and so on in MHz.
        throttling: why clocks were reduced since the last sample, one short phrase each; None if the board
            does not report it.
    """

    power: Values = dataclasses.field(default_factory=dict)
    temperatures: Values = dataclasses.field(default_factory=dict)
    clocks: Values = dataclasses.field(default_factory=dict)
    throttling: Optional[Tuple[str, ...]] = None

    @property
    def has_values(self) -> bool:
        """True if any sensor has a value."""
        values = (*self.power.values(), *self.temperatures.values(), *self.clocks.values())
        return self.throttling is not None or any(value is not None for value in values)


class TelemetrySource(Protocol):
    """A source of samples.

    Attributes:
        name: `sysfs`, `tegrastats` or `jtop`.
        averages: whether a power value is the mean since the last sample, as from an energy counter; else it
            is the current value.
    """

    name: str
    averages: bool

    def read(self) -> Optional[TelemetrySample]:
        """Read all sensors; None for a sensor that fails.

        May wait 1 s for the next line of a program; the first call, before a recorder starts, may wait 5 s.
        Returns None if there is no new measurement since the last sample.
        """

    def cpu_seconds(self) -> float:
        """Return the CPU time in s of the sampling outside the calling thread, for example in a program."""

    def close(self) -> None:
        """Close files and end programs."""
