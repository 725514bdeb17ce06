"""Power settings of a Jetson: the modes of nvpmodel, the current mode, and the clocks."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Dict, Optional, Sequence, Tuple

from adq_edge.hardware.commands import Runner, run_command
from adq_edge.hardware.procfs import first_group, read_integer, read_text
from adq_edge.hardware.telemetry.clocks import EMC_CLOCKS, gpu_folder


@dataclasses.dataclass(frozen=True)
class PowerMode:
    """A mode of nvpmodel.

    Attributes:
        id: the argument of `nvpmodel -m`.
        name: such as `MODE_20W_6CORE`.
        cores: number of enabled CPU cores.
        gpu_max_mhz: limit of the GPU clock in MHz; None without a limit.
        emc_max_mhz: limit of the memory clock in MHz; None without a limit.
    """

    id: int
    name: str
    cores: Optional[int] = None
    gpu_max_mhz: Optional[float] = None
    emc_max_mhz: Optional[float] = None

    @property
    def label(self) -> str:
        """The name and the id, as text."""
        return f"{self.name} (mode {self.id})"


@dataclasses.dataclass(frozen=True)
class Power:
    """Power settings; None for a value that this user cannot read.

    Attributes:
        modes: all modes, in the order of nvpmodel.conf.
        current: the current mode.
        highest: the mode with the most power; None if no name indicates it.
        clocks_locked: whether the GPU clock is fixed, as `jetson_clocks` does.
        gpu_mhz: current GPU clock in MHz.
        gpu_max_mhz: current upper limit of the GPU clock in MHz.
        emc_mhz: current memory clock in MHz; readable only by root on most boards.
    """

    modes: Tuple[PowerMode, ...]
    current: Optional[PowerMode]
    highest: Optional[PowerMode]
    clocks_locked: Optional[bool]
    gpu_mhz: Optional[float]
    gpu_max_mhz: Optional[float]
    emc_mhz: Optional[float]


def read_power(root: Path = Path("/"), run: Runner = run_command) -> Power:
    """Read the power settings of a Jetson; `nvpmodel -q` is run if its status file is absent."""
    modes = _modes(read_text(root / "etc" / "nvpmodel.conf"))
    gpu = gpu_folder(root)
    lowest, highest, current = (
        None if gpu is None else read_integer(gpu / f"{name}_freq") for name in ("min", "max", "cur")
    )
    return Power(
        modes=modes,
        current=_current(root, modes, run),
        highest=highest_mode(modes),
        clocks_locked=None if lowest is None or highest is None else lowest == highest,
        gpu_mhz=_mhz(current),
        gpu_max_mhz=_mhz(highest),
        emc_mhz=next((clock for clock in (_mhz(read_integer(root / p)) for p in EMC_CLOCKS) if clock), None),
    )


def highest_mode(modes: Sequence[PowerMode]) -> Optional[PowerMode]:
    """Return the mode with the most power, by name: MAXN_SUPER, MAXN, else most watts, then most cores.

    None if no name indicates the power. `jetson_setup.sh` uses the same rule.
    """
    ranked = [mode for mode in modes if mode.name.startswith("MAXN") or _watts(mode.name)]
    return max(ranked, key=_rank, default=None)


def _rank(mode: PowerMode) -> Tuple[int, int, int, int]:
    unlimited = 2 if mode.name.startswith("MAXN_SUPER") else 1 if mode.name.startswith("MAXN") else 0
    return unlimited, _watts(mode.name), mode.cores or 0, -mode.id


def _watts(name: str) -> int:
    return int(first_group(r"(\d+)W", name) or 0)


def _modes(configuration: str) -> Tuple[PowerMode, ...]:
    """Parse nvpmodel.conf: `< POWER_MODEL ID=8 NAME=MODE_20W_6CORE >`, then `UNIT ARGUMENT VALUE` lines."""
    modes = []
    for section in re.split(r"^(?=\s*<)", configuration, flags=re.MULTILINE):
        heading, _, body = section.partition("\n")
        number, name = first_group(r"\bID=(\d+)", heading), first_group(r"\bNAME=([^\s>]+)", heading)
        if re.match(r"\s*<\s*POWER_MODEL\b", heading) and number is not None and name is not None:
            values = _values(body)
            cores = [value for key, value in values.items() if key.startswith("CPU_ONLINE ")]
            modes.append(
                PowerMode(
                    int(number),
                    name,
                    cores=sum(cores) if cores else None,
                    gpu_max_mhz=_mhz(values.get("GPU MAX_FREQ")),
                    emc_max_mhz=_mhz(values.get("EMC MAX_FREQ")),
                )
            )
    return tuple(modes)


def _values(body: str) -> Dict[str, int]:
    found = re.findall(r"^\s*(\w+ \w+) (-?\d+)\s*$", body, re.MULTILINE)
    return {key: int(value) for key, value in found}


def _current(root: Path, modes: Sequence[PowerMode], run: Runner) -> Optional[PowerMode]:
    """Return the current mode; only its id and a name if nvpmodel.conf does not list it."""
    number = first_group(r"pmode:(\d+)", read_text(root / "var" / "lib" / "nvpmodel" / "status"))
    name = None
    if number is None:
        answer = run(["nvpmodel", "-q"]).output
        number, name = first_group(r"^(\d+)$", answer), first_group(r"NV Power Mode:\s*(\S+)", answer)
    if number is None:
        return None
    unlisted = PowerMode(int(number), name or f"mode {int(number)}")
    return next((mode for mode in modes if mode.id == unlisted.id), unlisted)


def _mhz(hertz: Optional[int]) -> Optional[float]:
    """Convert a clock from Hz to MHz; nvpmodel writes 0 or -1 for no limit."""
    return None if hertz is None or hertz <= 0 else hertz / 1e6
