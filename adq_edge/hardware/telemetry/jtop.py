"""Samples from jtop, the service of jetson-stats, if it is installed and no other source reports power.

Fields of jetson-stats 4 and later: `power` has the rails in mW, and `tot`, which has a name if one rail feeds
the whole board. `temperature` is in degrees Celsius. The clocks in `gpu` and `memory["EMC"]` are in kHz; on
Thor, the GPU clock comes from NVML, in MHz. `uptime` is the time of the measurement, `stats["time"]` the time
of the query. The first client sets the service's rate, often one sample per second. A recorder's reported
cost excludes the CPU time of the service.
"""

from __future__ import annotations

import importlib
import time
from typing import Any, Optional

from adq_edge.hardware.telemetry.sample import TelemetrySample, Values
from adq_edge.hardware.telemetry.thermal import real_temperatures

_STALE_SECONDS = 5.0  # after this time without a new measurement, the service has failed
_MAX_MHZ = 10_000.0


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
        temperatures = {name: sensor["temp"] for name, sensor in self._client.temperature.items()}
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
    rails = dict(power["rail"])
    if "name" in power["tot"]:
        rails[power["tot"]["name"]] = power["tot"]
    return {name: rail["power"] / 1000 for name, rail in rails.items()}


def _clocks(gpus: Any, memory: Any) -> Values:
    gpu: Any = next(iter(gpus.values()), {})
    clocks = {"gpu": gpu.get("freq", {}).get("cur"), "emc": memory.get("EMC", {}).get("cur")}
    return {name: _mhz(clock) for name, clock in clocks.items() if clock is not None}


def _mhz(clock: float) -> float:
    """Convert a clock in kHz or MHz to MHz; all clocks of a Jetson are from 10 to 10,000 MHz."""
    return clock / 1000 if clock > _MAX_MHZ else float(clock)
