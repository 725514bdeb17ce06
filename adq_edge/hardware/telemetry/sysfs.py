"""Readings of the board from /sys: nothing is started, and each costs a few dozen small reads."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

from adq_edge.hardware.telemetry.clocks import find_clocks
from adq_edge.hardware.telemetry.rails import find_counters, find_rails
from adq_edge.hardware.telemetry.sample import TelemetrySample
from adq_edge.hardware.telemetry.thermal import find_thermometers, is_temperature
from adq_edge.hardware.telemetry.throttling import Throttling


class SysfsSource:
    """Reads what this user can read of rails, thermometers, clocks and throttling.

    Args:
        root: where `sys` is.
    """

    name = "sysfs"

    def __init__(self, root: Path = Path("/")) -> None:
        rails = find_rails(root)
        # A Jetson has no energy counters; a board with rails is measured by these alone.
        self.averages = not rails
        self._rails = rails or find_counters(root)
        self._thermometers = find_thermometers(root)
        self._clocks = find_clocks(root)
        self._throttling = Throttling(root)

    def read(self) -> TelemetrySample:
        """Read all sensors; one that fails is None."""
        return TelemetrySample(
            power={name: rail.read() for name, rail in self._rails.items()},
            temperatures={name: _degrees(gauge.read()) for name, gauge in self._thermometers.items()},
            clocks={name: gauge.read() for name, gauge in self._clocks.items()},
            throttling=self._throttling.read(),
        )

    def cpu_seconds(self) -> float:
        """Return 0: all is read in the calling thread."""
        return 0.0

    def close(self) -> None:
        """Close all files."""
        for gauge in (*self._rails.values(), *self._thermometers.values(), *self._clocks.values()):
            gauge.close()
        self._throttling.close()


def _degrees(read: Optional[float]) -> Optional[float]:
    return read if read is not None and is_temperature(read) else None
