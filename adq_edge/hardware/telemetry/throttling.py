"""Throttling: whether and why a board reduces its clocks.

Jetsons report it in three ways. A cooling device of the thermal framework has a state above 0 while it
reduces clocks. Counters exist for the trips of NVIDIA's thermal alerts and for over-current events
(`oc1` and so on; JetPack 5.1 and later, NVIDIA's developer guide, "Over-current Throttling"). On boards
without over-current counters, a power monitor's alarm reports a rail above its limit, which reduces clocks.
On a PC, the processor counts how often it was too hot.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Dict, List, Optional, Tuple

from adq_edge.hardware.procfs import read_text
from adq_edge.hardware.telemetry.sysfs_value import SysfsValue, open_sysfs_value

# Cooling devices that reduce clocks. Others are fans, displays, alerts of a hot surface, and settings that
# the kernel shows as cooling devices (`TCC Offset`, `intel_powerclamp`).
_REDUCES_CLOCKS = re.compile(
    r"throttl|balanced|heavy|emergency|cpufreq|devfreq|^Processor$|^\d+\.(?:gm20b|gp10b|gv11b|ga10b|gpu)$"
)

# Meaning of the counters of Orin and Thor, from the same guide.
_OVER_CURRENT = {"OC1": "under-voltage", "OC2": "over-current on average", "OC3": "over-current"}

_Signs = List[Tuple[str, SysfsValue]]


class Throttling:
    """Reads the signs of throttling of this board."""

    def __init__(self, root: Path = Path("/")) -> None:
        over_current = _over_current_counters(root)
        self._levels = _cooling_devices(root) + ([] if over_current else _alarms(root))
        self._counters = [*over_current, *_trip_counters(root), *_processor_counters(root)]
        self._counts: Dict[SysfsValue, float] = {}
        self.read()

    def read(self) -> Optional[Tuple[str, ...]]:
        """Return the unique reasons for reduced clocks since the last call; None without a readable sign."""
        levels = [(reason, value.read()) for reason, value in self._levels]
        rises = [(reason, self._rise(counter)) for reason, counter in self._counters]
        known = [(reason, value) for reason, value in (*levels, *rises) if value is not None]
        reasons = dict.fromkeys(reason for reason, value in known if value > 0)
        return tuple(reasons) if known else None

    def _rise(self, counter: SysfsValue) -> Optional[float]:
        """Return the increase of a counter since it was last readable."""
        count = counter.read()
        if count is None:
            return None
        before = self._counts.get(counter, count)
        self._counts[counter] = count
        return count - before


def _cooling_devices(root: Path) -> _Signs:
    devices = sorted((root / "sys" / "class" / "thermal").glob("cooling_device*"))
    named = [(read_text(device / "type"), device / "cur_state") for device in devices]
    return _open([(f"cooling by {name}", path) for name, path in named if _REDUCES_CLOCKS.search(name)])


def _over_current_counters(root: Path) -> _Signs:
    paths = sorted((root / "sys" / "class" / "hwmon").glob("hwmon*/oc*_event_cnt"))
    numbered = [(path.name[: -len("_event_cnt")].upper(), path) for path in paths]
    return _open([(f"{_OVER_CURRENT.get(name, 'over-current')} ({name})", path) for name, path in numbered])


def _alarms(root: Path) -> _Signs:
    found = []
    for alarm in sorted((root / "sys" / "class" / "hwmon").glob("hwmon*/curr*_*_alarm")):
        number = alarm.name[len("curr") :].split("_")[0]
        rail = read_text(alarm.with_name(f"in{number}_label"))
        if read_text(alarm.with_name("name")).startswith("ina3221") and rail:
            found.append((f"over-current alarm of {rail}", alarm))
    return _open(found)


def _trip_counters(root: Path) -> _Signs:
    paths = sorted((root / "sys" / "devices" / "platform").glob("*-throttle-alert/thermal_trip_event"))
    return _open([(f"cooling by {path.parent.name}", path) for path in paths])


def _processor_counters(root: Path) -> _Signs:
    folder = root / "sys" / "devices" / "system" / "cpu"
    paths = sorted(folder.glob("cpu[0-9]*/thermal_throttle/*_throttle_count"))
    return _open([("the processor was too hot", path) for path in paths])


def _open(found: List[Tuple[str, Path]]) -> _Signs:
    opened = [(reason, open_sysfs_value(path)) for reason, path in found]
    return [(reason, value) for reason, value in opened if value is not None]
