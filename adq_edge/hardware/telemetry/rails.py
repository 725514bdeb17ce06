"""Power sensors in /sys: the rails of a Jetson, the energy counter of an Intel or AMD processor.

Jetsons measure their rails with INA3221 monitors, and Thor its input with an INA238. They are in
/sys/class/hwmon on JetPack 5 and later, and iio devices of NVIDIA's driver on JetPack 4. Processors count
energy (RAPL) in /sys/class/powercap, which on most systems only root may read.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Callable, Dict, Iterator, Optional, Protocol, Sequence, Tuple

from adq_edge.hardware.procfs import read_integer, read_text
from adq_edge.hardware.telemetry.sysfs_value import SysfsValue, open_sysfs_value

_MONITORS = ("ina3221", "ina3221x", "ina238")
_UNCONNECTED = "NC"

# The kernel updates the energy counter about once per ms: differences over less time are not precise.
_MIN_SECONDS = 0.005

# Rails that feed a whole module or board; the first complete group is used. Some boards have one input rail,
# others several parallel ones:
# - VDD_IN: TX1, TX2, Xavier NX, Orin NX and Nano. POM_5V_IN: Nano. VIN: Thor.
# - AGX Xavier: its monitors measure parallel rails (Jetson AGX Xavier Series Product Design Guide, 5.6.2).
#   AGX Orin: the rails of its first monitor. VDDQ_VDD2_1V8AO on the second is fed by VIN_SYS_5V0 and would
#   count twice.
INPUT_RAILS = (
    ("VDD_IN",),
    ("POM_5V_IN",),
    ("VIN",),
    ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"),
    ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"),
    ("VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0"),
)


class Rail(Protocol):
    """A power sensor."""

    def read(self) -> Optional[float]:
        """Return the power in W; None if the sensor fails."""


class ShuntRail:
    """Power as the product of a current in A and a voltage in V."""

    def __init__(self, current: SysfsValue, voltage: SysfsValue) -> None:
        self._current, self._voltage = current, voltage

    def read(self) -> Optional[float]:
        """Return the power in W; None if a sensor fails."""
        amperes, volts = self._current.read(), self._voltage.read()
        return None if amperes is None or volts is None else amperes * volts


class EnergyCounter:
    """Mean power between two readings of an energy counter.

    Args:
        counter: the energy in J.
        span_joules: energy at which the counter restarts from 0; None if unknown.
        clock: returns the time in s.
    """

    def __init__(
        self,
        counter: SysfsValue,
        span_joules: Optional[float],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._counter, self._span, self._clock = counter, span_joules, clock
        self._then, self._joules = clock(), counter.read()

    def read(self) -> Optional[float]:
        """Return the mean power in W since the last successful reading."""
        now, joules = self._clock(), self._counter.read()
        elapsed = now - self._then
        if joules is None or elapsed < _MIN_SECONDS:
            return None
        used = None if self._joules is None else joules - self._joules
        if used is not None and used < 0:
            used = None if self._span is None else used + self._span
        self._then, self._joules = now, joules
        return None if used is None else used / elapsed


def find_rails(root: Path = Path("/")) -> Dict[str, Rail]:
    """Open the rails that this user can read, by name."""
    rails: Dict[str, Rail] = {}
    for name, rail in (*_hwmon_rails(root), *_iio_rails(root)):
        if name != _UNCONNECTED:
            rails.setdefault(name, rail)
    return rails


def find_counters(root: Path = Path("/")) -> Dict[str, EnergyCounter]:
    """Open the energy counters that this user can read, by name, such as `package-0`."""
    counters: Dict[str, EnergyCounter] = {}
    for folder in sorted((root / "sys" / "class" / "powercap").glob("*-rapl:?")):
        counter = _readable(folder / "energy_uj", 1e-6)
        if counter is not None:
            span = read_integer(folder / "max_energy_range_uj")
            counters[read_text(folder / "name")] = EnergyCounter(
                counter, None if span is None else span / 1e6
            )
    return counters


def power_sensors(root: Path = Path("/")) -> Tuple[str, ...]:
    """Return the names of the power sensors that this user can read, such as `VDD_IN` or `package-0`."""
    return (*find_rails(root), *find_counters(root))


def input_rails(names: Sequence[str], on_gpu: bool = False) -> Tuple[str, ...]:
    """Return the rails that together feed the processor or GPU; empty if there are none.

    On a PC they are the packages of the processor: the other parts have no sensor.

    Args:
        names: all rails.
        on_gpu: whether a GPU computes. The board's input feeds a Jetson's GPU; the graphics card of a PC
            has no rail here.
    """
    for group in INPUT_RAILS:
        if all(rail in names for rail in group):
            return group
    return () if on_gpu else tuple(sorted(name for name in names if name.startswith("package-")))


def _hwmon_rails(root: Path) -> Iterator[Tuple[str, Rail]]:
    for monitor in sorted((root / "sys" / "class" / "hwmon").glob("hwmon*")):
        if read_text(monitor / "name") not in _MONITORS:
            continue
        power = _readable(monitor / "power1_input", 1e-6)
        if power is not None:
            yield read_text(monitor / "power1_label") or "VIN", power
        for label in sorted(monitor.glob("in*_label")):
            # `sum of shunt voltages` has a label, but no current with its number.
            number, name = label.name[2:-6], read_text(label)
            current = _readable(monitor / f"curr{number}_input", 1e-3)
            voltage = _readable(monitor / f"in{number}_input", 1e-3)
            if name and current is not None and voltage is not None:
                yield name, ShuntRail(current, voltage)


def _iio_rails(root: Path) -> Iterator[Tuple[str, Rail]]:
    devices = (root / "sys" / "bus" / "i2c" / "drivers" / "ina3221x").glob("*/iio[:_]device*")
    for label in sorted(label for device in devices for label in device.glob("rail_name_*")):
        number, name = label.name[len("rail_name_") :], read_text(label)
        power = _readable(label.with_name(f"in_power{number}_input"), 1e-3)
        if name and power is not None:
            yield name, power


def _readable(path: Path, scale: float) -> Optional[SysfsValue]:
    """Open the file of a sensor; None if it is absent, cannot be read or has no value now."""
    value = open_sysfs_value(path, scale)
    return None if value is None or value.read() is None else value
