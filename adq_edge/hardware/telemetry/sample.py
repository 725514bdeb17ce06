"""One reading of a board's sensors, and what can be read: the one protocol of sysfs, tegrastats and jtop."""

from __future__ import annotations

import dataclasses
from typing import Dict, Optional, Protocol, Tuple

# A sensor's name and what it told; None where this reading failed.
Values = Dict[str, Optional[float]]


@dataclasses.dataclass(frozen=True)
class TelemetrySample:
    """What the sensors told at one instant; empty where a board has none of a kind.

    Attributes:
        power: rails, in W.
        temperatures: sensors, in degrees Celsius.
        clocks: `gpu`, `emc`, `cpu0` and so on, in MHz.
        throttling: why clocks have been lowered since the reading before, one short phrase each; None where
            the board does not tell.
    """

    power: Values = dataclasses.field(default_factory=dict)
    temperatures: Values = dataclasses.field(default_factory=dict)
    clocks: Values = dataclasses.field(default_factory=dict)
    throttling: Optional[Tuple[str, ...]] = None

    @property
    def tells(self) -> bool:
        """Whether it tells anything at all."""
        values = (*self.power.values(), *self.temperatures.values(), *self.clocks.values())
        return self.throttling is not None or any(value is not None for value in values)


class TelemetrySource(Protocol):
    """Where readings come from.

    Attributes:
        name: `sysfs`, `tegrastats` or `jtop`.
        averages: whether power is the mean since the reading before (differences of an energy counter), not
            what it is at the instant.
    """

    name: str
    averages: bool

    def read(self) -> Optional[TelemetrySample]:
        """Read all sensors; one that fails is None. May wait for a program's next line, 1 s at most.

        The first time that may take 5 s, before a recorder starts. None if nothing was measured since the
        reading before.
        """

    def cpu_seconds(self) -> float:
        """Return the CPU time that reading has cost outside the calling thread, in a program for example."""

    def close(self) -> None:
        """Let go of files, and end programs."""
