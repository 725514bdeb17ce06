"""Samples of a board from /sys: no program is started, and a sample costs a few dozen small reads."""

from __future__ import annotations

from pathlib import Path

from adq_edge.hardware.telemetry.clocks import find_clocks
from adq_edge.hardware.telemetry.rails import find_counters, find_rails
from adq_edge.hardware.telemetry.sample import TelemetrySample, plausible_clocks, plausible_power
from adq_edge.hardware.telemetry.thermal import find_thermometers, real_temperatures
from adq_edge.hardware.telemetry.throttling import Throttling


class SysfsSource:
    """Reads the rails, temperatures, clocks and throttling that this user may read."""

    name = "sysfs"

    def __init__(self, root: Path = Path("/")) -> None:
        rails = find_rails(root)
        # Use a processor's energy counters only if there are no rails: boards with rails have none.
        self.averages = not rails
        self._rails = rails or find_counters(root)
        self._thermometers = find_thermometers(root)
        self._clocks = find_clocks(root)
        self._throttling = Throttling(root)

    def read(self) -> TelemetrySample:
        """Read all sensors; None for a sensor that fails."""
        return TelemetrySample(
            power=plausible_power({name: rail.read() for name, rail in self._rails.items()}),
            temperatures=real_temperatures({name: one.read() for name, one in self._thermometers.items()}),
            clocks=plausible_clocks({name: clock.read() for name, clock in self._clocks.items()}),
            throttling=self._throttling.read(),
        )

    def cpu_seconds(self) -> float:
        """Return 0: the calling thread does all the work."""
        return 0.0

    def close(self) -> None:
        """Do nothing: the files are closed with this object."""
