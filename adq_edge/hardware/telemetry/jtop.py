"""Samples from jtop, the service of jetson-stats, if it is installed and no other source reports power.

Fields of jetson-stats 4 and later: `power` has the rails in mW, and `tot`, which has a name if one rail feeds
the whole board. `temperature` is in degrees Celsius. The clocks in `gpu` and `memory["EMC"]` are in kHz; some
releases report the GPU clock of Thor in MHz. As the possible clocks in kHz and in MHz do not overlap, the
value shows its unit; a value in neither range is unknown. `uptime` is the time of the measurement,
`stats["time"]` the time of the query. The first client sets the service's rate, often one sample per second.
A recorder's reported cost excludes the CPU time of the service.
"""

from __future__ import annotations

import importlib
import sys
import time
from typing import Any, List, Mapping, Optional, Tuple

from adq_edge.hardware.telemetry.sample import (
    TelemetrySample,
    Values,
    plausible_mhz,
    plausible_power,
)
from adq_edge.hardware.telemetry.thermal import real_temperatures

_STALE_SECONDS = 5.0  # after this time without a new measurement, the service has failed


class JtopSource:
    """Reads from the service of jtop.

    Args:
        hertz: samples per second to request.

    Raises:
        Exception: jetson-stats is not installed, or its service does not run or cannot be reached. The error
            class of its client cannot be named without importing it.
    """

    name = "jtop"
    averages = False

    def __init__(self, hertz: float = 10.0) -> None:
        self._client: Any = importlib.import_module("jtop").jtop(interval=1 / hertz)
        self._client.start()
        try:
            self._client.ok()  # waits for the first measurement
        except BaseException:
            self._client.close()
            raise
        self._uptime: Any = None
        self._changed = time.monotonic()

    def read(self) -> Optional[TelemetrySample]:
        """Return the last measurement; None if it was returned before, empty if the service has failed."""
        if not self._client.ok(spin=True):
            return TelemetrySample()
        uptime, now = self._client.uptime, time.monotonic()
        if uptime == self._uptime:
            return None if now - self._changed < _STALE_SECONDS else TelemetrySample()
        self._uptime, self._changed = uptime, now
        temperatures = {name: _number(sensor, "temp") for name, sensor in _items(self._client.temperature)}
        return TelemetrySample(
            power=_power(self._client.power),
            temperatures=real_temperatures(temperatures),
            clocks=_clocks(self._client.gpu, self._client.memory),
        )

    def cpu_seconds(self) -> float:
        """Return 0: the service runs with or without this client."""
        return 0.0

    def close(self) -> None:
        """Disconnect from the service."""
        self._client.close()


def _power(power: Any) -> Values:
    rails = dict(_items(_entry(power, "rail")))
    total = _entry(power, "tot")
    if isinstance(_entry(total, "name"), str):
        rails[total["name"]] = total
    milliwatts = {name: _number(rail, "power") for name, rail in rails.items()}
    return plausible_power({name: None if mw is None else mw / 1000 for name, mw in milliwatts.items()})


def _clocks(gpus: Any, memory: Any) -> Values:
    known = [gpu for _, gpu in _items(gpus)]
    integrated = [gpu for gpu in known if _entry(gpu, "type") == "integrated"]
    gpu = next(iter(integrated or known), None)
    clocks = {"gpu": _number(_entry(gpu, "freq"), "cur"), "emc": _number(_entry(memory, "EMC"), "cur")}
    return {name: _mhz(clock) for name, clock in clocks.items() if clock is not None}


def _mhz(clock: float) -> Optional[float]:
    """Convert a clock in kHz or MHz to MHz; None for a value that is in neither range."""
    readings = (plausible_mhz(clock), plausible_mhz(clock / 1000))
    possible = [reading for reading in readings if reading is not None]
    return possible[0] if len(possible) == 1 else None


def _items(mapping: Any) -> List[Tuple[str, Any]]:
    """Return the items of a dictionary with names as keys; empty for any other value."""
    if not isinstance(mapping, Mapping):
        return []
    return [(name, value) for name, value in mapping.items() if isinstance(name, str)]


def _entry(mapping: Any, name: str) -> Any:
    return mapping.get(name) if isinstance(mapping, Mapping) else None


def _number(mapping: Any, name: str) -> Optional[float]:
    """Return a finite number of a dictionary; None for any other value."""
    value = _entry(mapping, name)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if not -sys.float_info.max <= value <= sys.float_info.max:  # math.isfinite raises for long integers
        return None
    return float(value)
