"""Power settings of a Jetson: the modes of nvpmodel, the current mode, and the clocks."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Sequence, Tuple

from adq_edge.hardware.commands import Runner, run_command
from adq_edge.hardware.procfs import first_group, read_integer, read_text
from adq_edge.hardware.telemetry.clocks import EMC_CLOCKS, gpu_folder
from adq_edge.hardware.telemetry.sample import plausible_mhz


@dataclasses.dataclass(frozen=True)
class PowerMode:
    """A mode of nvpmodel.

    Attributes:
        id: the argument of `nvpmodel -m`.
        name: such as `MODE_20W_6CORE`.
        cores: number of enabled CPU cores.
        gpu_max_mhz: limit of the GPU clock in MHz; None without a limit, or if it is unknown.
        emc_max_mhz: limit of the memory clock in MHz; None without a limit, or if it is unknown.
        cpu_max_mhz: highest limit of a CPU core's clock in MHz; None without a limit, or if it is unknown.
    """

    id: int
    name: str
    cores: Optional[int] = None
    gpu_max_mhz: Optional[float] = None
    emc_max_mhz: Optional[float] = None
    cpu_max_mhz: Optional[float] = None

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


def faster_cpu_mode(power: Power) -> Optional[PowerMode]:
    """Return the mode with the highest CPU clock that limits GPU and memory no more than the current one.

    One query at a time waits for one CPU thread, so such a mode may be faster with fewer cores. None if no
    mode has a higher CPU clock than the current one.
    """
    now = power.current
    if now is None or now.cpu_max_mhz is None:
        return None
    others = [
        (mode.cpu_max_mhz, mode)
        for mode in power.modes
        if mode.cpu_max_mhz is not None
        and mode.cpu_max_mhz > now.cpu_max_mhz
        and not _is_below(mode.gpu_max_mhz, now.gpu_max_mhz)
        and not _is_below(mode.emc_max_mhz, now.emc_max_mhz)
    ]
    return max(others, key=lambda pair: pair[0], default=(0.0, None))[1]


def _is_below(limit: Optional[float], other: Optional[float]) -> bool:
    return limit is not None and (other is None or limit < other)


def _rank(mode: PowerMode) -> Tuple[int, int, int, int]:
    unlimited = 2 if mode.name.startswith("MAXN_SUPER") else 1 if mode.name.startswith("MAXN") else 0
    return unlimited, _watts(mode.name), mode.cores or 0, -mode.id


def _watts(name: str) -> int:
    return int(first_group(r"(\d{1,6})W", name) or 0)


def _modes(configuration: str) -> Tuple[PowerMode, ...]:
    """Parse nvpmodel.conf: `< POWER_MODEL ID=8 NAME=MODE_20W_6CORE >`, then `UNIT ARGUMENT VALUE` lines."""
    lines = [line.partition("#")[0].strip() for line in configuration.splitlines()]
    modes: List[PowerMode] = []
    for section in re.split(r"^(?=<)", "\n".join(lines), flags=re.MULTILINE):
        heading, _, body = section.partition("\n")
        if re.match(r"<\s*POWER_MODEL\b", heading):
            modes.extend(_mode(heading, body))
    return tuple(modes)


def _mode(heading: str, body: str) -> Iterator[PowerMode]:
    """Yield the mode of a section; nothing if its heading lacks the id or the name."""
    number = first_group(r"\bID\s*=\s*[\"']?(\d{1,6})\b", heading)
    name = first_group(r"\bNAME\s*=\s*[\"']?([^\s<>\"']+)", heading)
    if number is None or name is None:
        return
    values = _values(body)
    clocks = [value for key, value in values.items() if re.match(r"CPU_\w+ MAX_FREQ$", key)]
    cores = [value == 1 for key, value in values.items() if key.startswith("CPU_ONLINE ")]
    yield PowerMode(
        int(number),
        name,
        cores=sum(cores) if cores else None,
        gpu_max_mhz=_mhz(values.get("GPU MAX_FREQ")),
        emc_max_mhz=_mhz(values.get("EMC MAX_FREQ")),
        cpu_max_mhz=_cpu_mhz(clocks),
    )


def _cpu_mhz(limits: Sequence[int]) -> Optional[float]:
    """Return the highest limit of the CPU cores in MHz; None if a core has no limit: 0 or -1."""
    limited = bool(limits) and min(limits) > 0
    return _mhz(1000 * max(limits)) if limited else None  # in kHz; the limits of GPU and memory are in Hz


def _values(body: str) -> Dict[str, int]:
    found = re.findall(r"^(\w+)\s+(\w+)\s+(-?\d{1,18})$", body, re.MULTILINE)
    return {f"{unit} {argument}": int(value) for unit, argument, value in found}


def _current(root: Path, modes: Sequence[PowerMode], run: Runner) -> Optional[PowerMode]:
    """Return the current mode; only its id and a name if nvpmodel.conf does not list it."""
    number = first_group(r"pmode:(\d{1,6})\b", read_text(root / "var" / "lib" / "nvpmodel" / "status"))
    name = None
    if number is None:
        answer = run(["nvpmodel", "-q"]).output
        number, name = (
            first_group(r"^\s*(\d{1,6})\s*$", answer),
            first_group(r"NV Power Mode:\s*(\S+)", answer),
        )
    if number is None:
        return None
    unlisted = PowerMode(int(number), name or f"mode {int(number)}")
    return next((mode for mode in modes if mode.id == unlisted.id), unlisted)


def _mhz(hertz: Optional[int]) -> Optional[float]:
    """Convert a clock from Hz to MHz; None for an impossible one, and for 0 and -1, which mean no limit."""
    return None if hertz is None else plausible_mhz(hertz / 1e6)
