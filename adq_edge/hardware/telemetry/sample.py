"""One sample of a board's sensors, and the protocol of its sources: sysfs, tegrastats and jtop."""

from __future__ import annotations

import dataclasses
from typing import Dict, Optional, Protocol, Tuple

Values = Dict[str, Optional[float]]
"""Values by sensor name; None for a sensor that failed."""


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
