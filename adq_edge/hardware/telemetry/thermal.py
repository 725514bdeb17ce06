"""Temperature sensors in /sys: the thermal zones, and an AMD processor's own sensor."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, Iterator, Tuple

from adq_edge.hardware.procfs import read_text
from adq_edge.hardware.telemetry.sysfs_value import SysfsValue, open_sysfs_value


def find_thermometers(root: Path = Path("/")) -> Dict[str, SysfsValue]:
    """Open the temperature sensors, in degrees Celsius, by name; the caller closes them.

    One that gives nothing now is kept: a GPU that is switched off has no temperature.

    Args:
        root: where `sys` is.
    """
    found: Dict[str, SysfsValue] = {}
    for name, path in (*_zones(root), *_processors(root)):
        gauge = None if is_made_up(name) else open_sysfs_value(path, 1e-3)
        if gauge is not None:
            number = sum(known.split("#")[0] == name for known in found)
            found[name if number == 0 else f"{name}#{number + 1}"] = gauge
    return found


def is_made_up(sensor: str) -> bool:
    """Return whether a Jetson's sensor is none: `PMIC` always says 50 or 100 degrees."""
    return sensor.upper().startswith("PMIC")


def is_temperature(degrees: float) -> bool:
    """Return whether a reading can be true: sensors that are off say -256 and the like."""
    return -100.0 < degrees < 200.0


def _zones(root: Path) -> Iterator[Tuple[str, Path]]:
    zones = (root / "sys" / "class" / "thermal").glob("thermal_zone*")
    for zone in sorted(zones, key=lambda path: (len(path.name), path.name)):
        name = read_text(zone / "type")
        if name:
            yield name, zone / "temp"


def _processors(root: Path) -> Iterator[Tuple[str, Path]]:
    for monitor in sorted((root / "sys" / "class" / "hwmon").glob("hwmon*")):
        if read_text(monitor / "name") == "k10temp":
            yield "k10temp", monitor / "temp1_input"
