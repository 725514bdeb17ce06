"""Whether and why the board lowers its clocks: too hot, or too much current.

Jetsons tell it in three ways. Cooling devices of the thermal framework that lower clocks have a state above 0
while they do. Counters count: trips of NVIDIA's thermal alerts, and over-current events (`oc1` and so on;
JetPack 5.1 and later, NVIDIA's developer guide, "Over-current Throttling"). Where there are no such counters,
the power monitors' own alarms say that a rail takes more current than it may, which lowers clocks. A PC's
processor counts how often it became too hot.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Dict, List, Optional, Tuple

from adq_edge.hardware.procfs import read_text
from adq_edge.hardware.telemetry.sysfs_value import SysfsValue, open_sysfs_value

# Cooling devices that slow a chip down. Fans, displays, alerts of a hot surface, and settings that the kernel
# shows as cooling devices (`TCC Offset`, `intel_powerclamp`) are none.
_SLOWS = re.compile(
    r"throttl|balanced|heavy|emergency|cpufreq|devfreq|^Processor$|^\d+\.(?:gm20b|gp10b|gv11b|ga10b|gpu)$"
)

# What the counters of Orin and Thor are for (the same guide).
_OVER_CURRENT = {"OC1": "under-voltage", "OC2": "over-current on average", "OC3": "over-current"}


class Throttling:
    """The signs of throttling that this board has; the caller closes it.

    Args:
        root: where `sys` is.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        counters = _over_current_counters(root)
        self._levels: List[Tuple[str, SysfsValue]] = _cooling_devices(root)
        if not counters:
            self._levels += _alarms(root)
        self._counters = [*counters, *_trip_counters(root), *_processor_counters(root)]
        self._counts: Dict[SysfsValue, float] = {}
        self.read()

    def read(self) -> Optional[Tuple[str, ...]]:
        """Return why clocks have been lowered since the last call, each reason once; None if not told."""
        told, reasons = False, []
        for reason, gauge in self._levels:
            level = gauge.read()
            told = told or level is not None
            if level is not None and level > 0:
                reasons.append(reason)
        for reason, gauge in self._counters:
            count = gauge.read()
            told = told or count is not None
            if count is not None:
                if count > self._counts.get(gauge, count):
                    reasons.append(reason)
                self._counts[gauge] = count
        return tuple(dict.fromkeys(reasons)) if told else None

    def close(self) -> None:
        """Close all files."""
        for _, gauge in (*self._levels, *self._counters):
            gauge.close()


def _cooling_devices(root: Path) -> List[Tuple[str, SysfsValue]]:
    devices = sorted((root / "sys" / "class" / "thermal").glob("cooling_device*"))
    named = [(read_text(device / "type"), device / "cur_state") for device in devices]
    return _open([(f"cooling by {name}", path) for name, path in named if _SLOWS.search(name)])


def _over_current_counters(root: Path) -> List[Tuple[str, SysfsValue]]:
    paths = sorted((root / "sys" / "class" / "hwmon").glob("hwmon*/oc*_event_cnt"))
    numbered = [(path.name[: -len("_event_cnt")].upper(), path) for path in paths]
    return _open([(f"{_OVER_CURRENT.get(name, 'over-current')} ({name})", path) for name, path in numbered])


def _alarms(root: Path) -> List[Tuple[str, SysfsValue]]:
    found = []
    for alarm in sorted((root / "sys" / "class" / "hwmon").glob("hwmon*/curr*_*_alarm")):
        number = alarm.name[len("curr") :].split("_")[0]
        rail = read_text(alarm.with_name(f"in{number}_label"))
        if read_text(alarm.with_name("name")).startswith("ina3221") and rail:
            found.append((f"over-current alarm of {rail}", alarm))
    return _open(found)


def _trip_counters(root: Path) -> List[Tuple[str, SysfsValue]]:
    paths = sorted((root / "sys" / "devices" / "platform").glob("*-throttle-alert/thermal_trip_event"))
    return _open([(f"cooling by {path.parent.name}", path) for path in paths])


def _processor_counters(root: Path) -> List[Tuple[str, SysfsValue]]:
    folder = root / "sys" / "devices" / "system" / "cpu"
    paths = sorted(folder.glob("cpu[0-9]*/thermal_throttle/*_throttle_count"))
    return _open([("the processor was too hot", path) for path in paths])


def _open(found: List[Tuple[str, Path]]) -> List[Tuple[str, SysfsValue]]:
    opened = [(reason, open_sysfs_value(path)) for reason, path in found]
    return [(reason, gauge) for reason, gauge in opened if gauge is not None]
