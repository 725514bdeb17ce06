"""Interference with a benchmark: CPU time of other processes, drift, and throttling."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import List, Optional, Sequence

import numpy as np
import psutil

from adq_edge.benchmark.results import Interference
from adq_edge.hardware.procfs import process_seconds, read_integer, read_text

# Below these limits two runs of one engine agree within 3 %.
_MAX_OTHER_PERCENT = 5.0
_MAX_STOLEN_PERCENT = 1.0
_MAX_DRIFT_PERCENT = 5.0


@dataclasses.dataclass(frozen=True)
class CpuTimes:
    """CPU time since the machine started in s, and the number of times that heat throttled its cores.

    Attributes:
        total: time of all processors, idle time included.
        busy: time of programs and the kernel.
        stolen: time that a hypervisor gave to other machines.
        own: the part of `busy` that the processes of the benchmark used.
        throttlings: sum over the cores; 0 if the system does not count them.
    """

    total: float
    busy: float
    stolen: float
    own: float
    throttlings: int


def read_cpu_times(workers: Sequence[int], root: Path = Path("/")) -> CpuTimes:
    """Read the counters of the system; `workers` are the ids of the benchmark's other processes."""
    times = psutil.cpu_times()._asdict()
    stolen = times.get("steal", 0.0)
    # Linux counts the time of guests in `user` and `nice` as well.
    total = sum(seconds for name, seconds in times.items() if not name.startswith("guest"))
    cores = (root / "sys" / "devices" / "system" / "cpu").glob("cpu[0-9]*/thermal_throttle")
    return CpuTimes(
        total=total,
        busy=total - times["idle"] - times.get("iowait", 0.0) - stolen,
        stolen=stolen,
        own=sum(process_seconds(pid) for pid in (os.getpid(), *workers)),
        throttlings=sum(read_integer(core / "core_throttle_count") or 0 for core in cores),
    )


def read_governor(root: Path = Path("/")) -> Optional[str]:
    """Return the policy of the CPU clock, such as `performance`; None if the system does not report it."""
    folder = root / "sys" / "devices" / "system" / "cpu"
    governors = {read_text(path) for path in folder.glob("cpu[0-9]*/cpufreq/scaling_governor")}
    return ", ".join(sorted(governors - {""})) or None


def drift_percent(round_medians: Sequence[float]) -> float:
    """Return the largest change between the first, middle and last third of an engine's rounds.

    The median of each third is compared, so that one disturbed round is not a drift.

    Args:
        round_medians: one or more, in the order of time.

    Returns:
        Percent of the median of all rounds.
    """
    thirds = [np.median(part) for part in np.array_split(np.array(round_medians), 3) if part.size]
    return float((max(thirds) - min(thirds)) / np.median(round_medians)) * 100.0


def find_interference(
    before: CpuTimes, after: CpuTimes, drift: float, governor: Optional[str]
) -> Interference:
    """Compare the counters of the system with the limits for a run without interference.

    Args:
        before: counters at the start of the timing.
        after: counters at its end.
        drift: the largest drift of an engine in percent.
        governor: policy of the CPU clock.
    """
    other = stolen = None
    reasons: List[str] = []
    total = after.total - before.total
    if total > 0:
        others = after.busy - before.busy - (after.own - before.own)
        other = 100.0 * max(0.0, others) / total  # the two counts of the kernel differ by a few ms
        stolen = 100.0 * (after.stolen - before.stolen) / total
        if other > _MAX_OTHER_PERCENT:
            reasons.append(f"other processes took {other:.0f} % of the CPU")
        if stolen > _MAX_STOLEN_PERCENT:
            reasons.append(f"a hypervisor gave {stolen:.0f} % of the CPU to others")
        if after.throttlings > before.throttlings:
            reasons.append("heat throttled the CPU")
    if drift > _MAX_DRIFT_PERCENT:
        reasons.append(f"latency drifted by {drift:.0f} %")
    return Interference(not reasons, tuple(reasons), other, stolen, drift, governor)
