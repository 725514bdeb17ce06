"""How a Jetson's power is set: nvpmodel's modes, the mode it is in, clocks and whether they are locked."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Dict, Optional, Sequence, Tuple

from adq_edge.hardware.commands import Runner, run_command
from adq_edge.hardware.procfs import read_integer, read_text
from adq_edge.hardware.telemetry.clocks import EMC_CLOCKS, gpu_folder


@dataclasses.dataclass(frozen=True)
class PowerMode:
    """One of nvpmodel's modes.

    Attributes:
        id: what `nvpmodel -m` takes.
        name: its name, `MODE_20W_6CORE` for one.
        cores: CPU cores that it leaves on.
        gpu_max_mhz: limit on the GPU's clock; None for no limit.
        emc_max_mhz: limit on the memory's clock; None for no limit.
    """

    id: int
    name: str
    cores: Optional[int] = None
    gpu_max_mhz: Optional[float] = None
    emc_max_mhz: Optional[float] = None

    @property
    def label(self) -> str:
        """Its name and number, for people."""
        return f"{self.name} (mode {self.id})"


@dataclasses.dataclass(frozen=True)
class Power:
    """How the power is set; None for what the board does not tell this user.

    Attributes:
        modes: all modes, in the order of their file.
        current: the mode in use.
        highest: the mode with the most power; None where their names do not tell.
        clocks_locked: whether the GPU's clock is held still, as `jetson_clocks` does.
        gpu_mhz: the GPU's clock now.
        gpu_max_mhz: the highest clock that the GPU may take now.
        emc_mhz: the memory's clock now; mostly for root only.
    """

    modes: Tuple[PowerMode, ...]
    current: Optional[PowerMode]
    highest: Optional[PowerMode]
    clocks_locked: Optional[bool]
    gpu_mhz: Optional[float]
    gpu_max_mhz: Optional[float]
    emc_mhz: Optional[float]


def read_power(root: Path = Path("/"), run: Runner = run_command) -> Power:
    """Read how a Jetson's power is set.

    Args:
        root: where `etc`, `var` and `sys` are.
        run: how `nvpmodel -q` is run, where its status file does not tell.
    """
    modes = _modes(read_text(root / "etc" / "nvpmodel.conf"))
    gpu = gpu_folder(root)
    lowest = None if gpu is None else read_integer(gpu / "min_freq")
    most = None if gpu is None else read_integer(gpu / "max_freq")
    return Power(
        modes=modes,
        current=_current(root, modes, run),
        highest=highest_mode(modes),
        clocks_locked=None if lowest is None or most is None else lowest == most,
        gpu_mhz=None if gpu is None else _mhz(read_integer(gpu / "cur_freq")),
        gpu_max_mhz=_mhz(most),
        emc_mhz=next((clock for clock in (_mhz(read_integer(root / p)) for p in EMC_CLOCKS) if clock), None),
    )


def highest_mode(modes: Sequence[PowerMode]) -> Optional[PowerMode]:
    """Return the mode with the most power, by name: MAXN_SUPER, MAXN, else most watts, then most cores.

    None where no name tells. `jetson_setup.sh` chooses by the same rule.
    """
    told = [mode for mode in modes if mode.name.startswith("MAXN") or _watts(mode.name)]
    return max(told, key=_rank, default=None)


def _rank(mode: PowerMode) -> Tuple[int, int, int, int]:
    unlimited = 2 if mode.name.startswith("MAXN_SUPER") else 1 if mode.name.startswith("MAXN") else 0
    return unlimited, _watts(mode.name), mode.cores or 0, -mode.id


def _watts(name: str) -> int:
    found = re.search(r"(\d+)W", name)
    return 0 if found is None else int(found.group(1))


def _modes(configuration: str) -> Tuple[PowerMode, ...]:
    """Parse nvpmodel.conf: `< POWER_MODEL ID=8 NAME=MODE_20W_6CORE >`, then `UNIT ARGUMENT VALUE` lines."""
    modes = []
    for section in re.split(r"^(?=\s*<)", configuration, flags=re.MULTILINE):
        heading, _, body = section.partition("\n")
        number, name = re.search(r"\bID=(\d+)", heading), re.search(r"\bNAME=(\S+)", heading)
        if re.match(r"\s*<\s*POWER_MODEL\b", heading) and number is not None and name is not None:
            values = _values(body)
            cores = [value for key, value in values.items() if key.startswith("CPU_ONLINE ")]
            modes.append(
                PowerMode(
                    int(number.group(1)),
                    name.group(1),
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
    """Return the mode in use; one without a name of its own where nvpmodel.conf does not list it."""
    status = re.search(r"pmode:(\d+)", read_text(root / "var" / "lib" / "nvpmodel" / "status"))
    name = None
    if status is None:
        answer = run(["nvpmodel", "-q"]).output
        status = re.search(r"^(\d+)$", answer, re.MULTILINE)
        name = re.search(r"NV Power Mode:\s*(\S+)", answer)
    if status is None:
        return None
    number = int(status.group(1))
    unlisted = PowerMode(number, f"mode {number}" if name is None else name.group(1))
    return next((mode for mode in modes if mode.id == number), unlisted)


def _mhz(hertz: Optional[int]) -> Optional[float]:
    """Turn a clock in Hz into MHz; nvpmodel writes 0 or -1 for no limit."""
    return None if hertz is None or hertz <= 0 else hertz / 1e6
