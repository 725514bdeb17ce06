"""Whether the machine was quiet: who else took CPU time, what drifted, what was throttled."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import List, Optional, Sequence

import numpy as np

from adq_edge.benchmark.results import Interference
from adq_edge.hardware.procfs import process_ticks, read_integer, read_text

# Two runs of one engine agree within 3 % on a machine that stays below these.
_MOST_OTHER_PERCENT = 5.0
_MOST_STOLEN_PERCENT = 1.0
_MOST_DRIFT_PERCENT = 5.0


@dataclasses.dataclass(frozen=True)
class CpuTimes:
    """CPU time since the machine started, in clock ticks, and how often heat throttled its cores.

    Attributes:
        total: of all processors, idle time included.
        busy: of it, what programs and the kernel took.
        stolen: of it, what a hypervisor gave to others.
        own: of `busy`, what the benchmark's own processes took.
        throttlings: sum over the cores; stays 0 where the system does not count.
    """

    total: int
    busy: int
    stolen: int
    own: int
    throttlings: int


def read_cpu_times(workers: Sequence[int], root: Path = Path("/")) -> Optional[CpuTimes]:
    """Read the counters; None where the system has none.

    Args:
        workers: process ids that belong to the benchmark, besides this process itself.
        root: where `proc` and `sys` are.
    """
    first_line = read_text(root / "proc" / "stat").partition("\n")[0]
    fields = [int(word) for word in first_line.split()[1:]]
    if len(fields) < 8:
        return None
    user, nice, system, idle, waiting, hardware, software, stolen = fields[:8]
    busy = user + nice + system + hardware + software
    cores = (root / "sys" / "devices" / "system" / "cpu").glob("cpu[0-9]*/thermal_throttle")
    return CpuTimes(
        total=busy + idle + waiting + stolen,
        busy=busy,
        stolen=stolen,
        own=sum(process_ticks(pid, root) for pid in (os.getpid(), *workers)),
        throttlings=sum(read_integer(core / "core_throttle_count") or 0 for core in cores),
    )


def read_governor(root: Path = Path("/")) -> Optional[str]:
    """Return what sets the CPU's clock, `performance` for one; None where the system does not tell."""
    folder = root / "sys" / "devices" / "system" / "cpu"
    governors = {read_text(path) for path in folder.glob("cpu[0-9]*/cpufreq/scaling_governor")}
    return ", ".join(sorted(governors - {""})) or None


def drift_percent(round_medians: Sequence[float]) -> float:
    """Return the largest change between the first, the middle and the last third of an engine's rounds.

    A third's median is taken, so that one disturbed round does not count as drift.

    Args:
        round_medians: in the order of time, at least one.

    Returns:
        Percent of the median of all.
    """
    thirds = [np.median(part) for part in np.array_split(np.array(round_medians), 3) if part.size]
    return float((max(thirds) - min(thirds)) / np.median(round_medians)) * 100.0


def judge(
    before: Optional[CpuTimes], after: Optional[CpuTimes], drift: float, governor: Optional[str]
) -> Interference:
    """Return True if the machine was quiet.

    Args:
        before: the counters when the timing began.
        after: the counters when it ended.
        drift: the largest of the engines' drifts, in percent.
        governor: what sets the CPU's clock.
    """
    other = stolen = None
    reasons: List[str] = []
    if before is not None and after is not None and after.total > before.total:
        total = after.total - before.total
        others = after.busy - before.busy - (after.own - before.own)
        other = 100.0 * max(0, others) / total  # the kernel's two ways of counting differ by a tick or so
        stolen = 100.0 * (after.stolen - before.stolen) / total
        if other > _MOST_OTHER_PERCENT:
            reasons.append(f"other processes took {other:.0f} % of the CPU")
        if stolen > _MOST_STOLEN_PERCENT:
            reasons.append(f"a hypervisor gave {stolen:.0f} % of the CPU to others")
        if after.throttlings > before.throttlings:
            reasons.append("heat throttled the CPU")
    if drift > _MOST_DRIFT_PERCENT:
        reasons.append(f"latency drifted by {drift:.0f} %")
    return Interference(not reasons, tuple(reasons), other, stolen, drift, governor)
