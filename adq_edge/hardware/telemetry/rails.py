"""Power sensors in /sys: a Jetson's rails, an Intel or AMD processor's energy counter.

Jetsons measure their rails with INA3221 monitors (Thor its input with an INA238 besides). JetPack 5 and later
show them under /sys/class/hwmon, JetPack 4 as iio devices of NVIDIA's own driver. Processors count energy
(RAPL), shown under /sys/class/powercap; most systems let only root read it.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Callable, Dict, Iterator, Optional, Protocol, Sequence, Tuple

from adq_edge.hardware.procfs import read_integer, read_text
from adq_edge.hardware.telemetry.sysfs_value import SysfsValue, open_sysfs_value

_MONITORS = ("ina3221", "ina3221x", "ina238")
_UNCONNECTED = "NC"

# The kernel renews the energy counter once in a millisecond or so: differences over less say little.
_LEAST_SECONDS = 0.005

# Rails that feed a whole module or board: the first group of which all are there counts. One rail where a
# board has one for all, else those that come from the supply side by side:
# - VDD_IN: TX1, TX2, Xavier NX, Orin NX and Nano. POM_5V_IN: Nano. VIN: Thor.
# - AGX Xavier has none: its monitors measure the rails next to one another (Jetson AGX Xavier Series Product
#   Design Guide, 5.6.2). AGX Orin: its first monitor; VDDQ_VDD2_1V8AO on the second is at 5 V, which comes
#   through VIN_SYS_5V0 and would count twice.
_INPUTS = (
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
        """Return the power in W; None if it cannot be told."""

    def close(self) -> None:
        """Let go of its files."""


class ShuntRail:
    """Power as current (in A) times voltage (in V)."""

    def __init__(self, current: SysfsValue, voltage: SysfsValue) -> None:
        self._current, self._voltage = current, voltage

    def read(self) -> Optional[float]:
        """Return the power in W."""
        amperes, volts = self._current.read(), self._voltage.read()
        return None if amperes is None or volts is None else amperes * volts

    def close(self) -> None:
        """Close both files."""
        self._current.close()
        self._voltage.close()


class EnergyCounter:
    """Mean power since the reading before, from a counter of energy.

    Args:
        counter: the energy in J.
        span_joules: where the counter starts from 0 again; None if that is not known.
        clock: tells seconds.
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
        """Return the mean power in W since the last reading that gave one."""
        now, joules = self._clock(), self._counter.read()
        elapsed = now - self._then
        if joules is None or elapsed < _LEAST_SECONDS:
            return None
        used = None if self._joules is None else joules - self._joules
        if used is not None and used < 0:
            used = None if self._span is None else used + self._span
        self._then, self._joules = now, joules
        return None if used is None else used / elapsed

    def close(self) -> None:
        """Close the counter's file."""
        self._counter.close()


def find_rails(root: Path = Path("/")) -> Dict[str, Rail]:
    """Open the rails that this user can read, by name; the caller closes them.

    Args:
        root: where `sys` is.
    """
    rails: Dict[str, Rail] = {}
    for name, rail in (*_hwmon_rails(root), *_iio_rails(root)):
        if name == _UNCONNECTED or name in rails:
            rail.close()
        else:
            rails[name] = rail
    return rails


def find_counters(root: Path = Path("/")) -> Dict[str, EnergyCounter]:
    """Open the energy counters that this user can read, `package-0` and so on; the caller closes them."""
    counters: Dict[str, EnergyCounter] = {}
    for folder in sorted((root / "sys" / "class" / "powercap").glob("*-rapl:?")):
        counter = _readable(folder / "energy_uj", 1e-6)
        if counter is not None:
            span = read_integer(folder / "max_energy_range_uj")
            counters[read_text(folder / "name")] = EnergyCounter(
                counter, None if span is None else span / 1e6
            )
    return counters


def input_rails(names: Sequence[str], on_gpu: bool = False) -> Tuple[str, ...]:
    """Return those of some rails that together feed whatever computes; empty where none do.

    On a PC these are the processor's packages, which is not the whole machine: nothing else measures itself.

    Args:
        names: the rails.
        on_gpu: whether a GPU computes: a Jetson's is fed through the board's input, a PC's card through no
            rail that is measured here.
    """
    for group in _INPUTS:
        if all(rail in names for rail in group):
            return group
    return () if on_gpu else tuple(sorted(name for name in names if name.startswith("package-")))


def _hwmon_rails(root: Path) -> Iterator[Tuple[str, Rail]]:
    for monitor in sorted((root / "sys" / "class" / "hwmon").glob("hwmon*")):
        if read_text(monitor / "name") not in _MONITORS:
            continue
        whole = _readable(monitor / "power1_input", 1e-6)
        if whole is not None:
            yield read_text(monitor / "power1_label") or "VIN", whole
        for label in sorted(monitor.glob("in*_label")):
            # `sum of shunt voltages` has a label but no current of that number.
            number, name = label.name[2:-6], read_text(label)
            current = _readable(monitor / f"curr{number}_input", 1e-3)
            voltage = _readable(monitor / f"in{number}_input", 1e-3)
            if name and current is not None and voltage is not None:
                yield name, ShuntRail(current, voltage)
            else:
                for gauge in (current, voltage):
                    if gauge is not None:
                        gauge.close()


def _iio_rails(root: Path) -> Iterator[Tuple[str, Rail]]:
    devices = (root / "sys" / "bus" / "i2c" / "drivers" / "ina3221x").glob("*/iio[:_]device*")
    for label in sorted(label for device in devices for label in device.glob("rail_name_*")):
        number, name = label.name[len("rail_name_") :], read_text(label)
        power = _readable(label.with_name(f"in_power{number}_input"), 1e-3)
        if name and power is not None:
            yield name, power
        elif power is not None:
            power.close()


def _readable(path: Path, scale: float) -> Optional[SysfsValue]:
    """Open a gauge that tells a number now; a file that is there may still refuse to be read."""
    gauge = open_sysfs_value(path, scale)
    if gauge is not None and gauge.read() is None:
        gauge.close()
        return None
    return gauge
