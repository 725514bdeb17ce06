"""Power mode, clocks and temperature of a Jetson at one instant, for the report of a benchmark."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Optional, Tuple

from adq_edge.hardware.commands import Runner, run_command
from adq_edge.hardware.jetson import read_jetson
from adq_edge.hardware.power import PowerMode, read_power
from adq_edge.hardware.telemetry.sysfs import SysfsSource


@dataclasses.dataclass(frozen=True)
class BoardState:
    """State of a board; None for a value that this user cannot read.

    Attributes:
        power_mode: the mode of nvpmodel. The watts in its name are a limit on clocks, not a measured power.
        clocks_locked: whether the GPU clock is fixed, as `jetson_clocks` does.
        gpu_mhz: GPU clock in MHz.
        emc_mhz: memory clock in MHz; readable only by root on most boards.
        hottest_degc: highest temperature of all sensors in degrees Celsius.
    """

    power_mode: Optional[PowerMode]
    clocks_locked: Optional[bool]
    gpu_mhz: Optional[float]
    emc_mhz: Optional[float]
    hottest_degc: Optional[float]

    @property
    def settings(self) -> Tuple[Optional[PowerMode], Optional[bool]]:
        """What a user sets: the power mode and the clock lock."""
        return self.power_mode, self.clocks_locked


def read_board_state(root: Path = Path("/"), run: Runner = run_command) -> Optional[BoardState]:
    """Read the state of this Jetson; None on any other machine."""
    if read_jetson(root) is None:
        return None
    power = read_power(root, run)
    return BoardState(power.current, power.clocks_locked, power.gpu_mhz, power.emc_mhz, _hottest(root))


def _hottest(root: Path) -> Optional[float]:
    temperatures = SysfsSource(root).read().temperatures.values()
    return max((value for value in temperatures if value is not None), default=None)
