"""How a Jetson is set at one instant: a benchmark tells it before and after."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Optional

from adq_edge.hardware.commands import Runner, run_command
from adq_edge.hardware.jetson import read_jetson
from adq_edge.hardware.power import PowerMode, read_power
from adq_edge.hardware.telemetry.sysfs import SysfsSource


@dataclasses.dataclass(frozen=True)
class BoardState:
    """How a board is set; None for what it does not tell this user.

    Attributes:
        power_mode: nvpmodel's mode: a name with watts caps clocks, it measures no power.
        clocks_locked: whether the GPU's clock is held still, as `jetson_clocks` does.
        gpu_mhz: the GPU's clock.
        emc_mhz: the memory's clock; mostly for root only.
        hottest_degc: the highest temperature of any sensor.
    """

    power_mode: Optional[PowerMode]
    clocks_locked: Optional[bool]
    gpu_mhz: Optional[float]
    emc_mhz: Optional[float]
    hottest_degc: Optional[float]


def read_board_state(root: Path = Path("/"), run: Runner = run_command) -> Optional[BoardState]:
    """Read how this Jetson is set; None on any other machine.

    Args:
        root: where `proc`, `etc`, `var` and `sys` are.
        run: how `nvpmodel -q` is run, where its status file does not tell.
    """
    if read_jetson(root) is None:
        return None
    power = read_power(root, run)
    return BoardState(power.current, power.clocks_locked, power.gpu_mhz, power.emc_mhz, _hottest(root))


def _hottest(root: Path) -> Optional[float]:
    sysfs = SysfsSource(root)
    try:
        told = sysfs.read().temperatures.values()
    finally:
        sysfs.close()
    return max((value for value in told if value is not None), default=None)
