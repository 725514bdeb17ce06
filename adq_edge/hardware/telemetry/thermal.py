"""Temperature sensors in /sys: the thermal zones, and the sensor of an AMD processor."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, Iterator, Tuple

from adq_edge.hardware.procfs import read_text
from adq_edge.hardware.telemetry.sample import Values
from adq_edge.hardware.telemetry.sysfs_value import SysfsValue, open_sysfs_value


def find_thermometers(root: Path = Path("/")) -> Dict[str, SysfsValue]:
    """Open the temperature sensors in degrees Celsius, by name.

    A sensor without a current value is kept: a GPU without power has no temperature.
    """
    found: Dict[str, SysfsValue] = {}
    for name, path in (*_zones(root), *_processors(root)):
        value = open_sysfs_value(path, 1e-3)
        if value is not None:
            number = sum(known.split("#")[0] == name for known in found)
            found[name if number == 0 else f"{name}#{number + 1}"] = value
    return found


def real_temperatures(readings: Values) -> Values:
    """Remove the sensors that measure nothing, and replace impossible temperatures by None.

    `PMIC` of a Jetson always reports 50 or 100 degrees Celsius. Sensors without power report -256 or similar.
    """
    return {
        name: degrees if degrees is not None and -100.0 < degrees < 200.0 else None
        for name, degrees in readings.items()
        if not name.upper().startswith("PMIC")
    }


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
