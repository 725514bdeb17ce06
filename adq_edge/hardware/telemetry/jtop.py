"""Readings from jtop, the service of jetson-stats, where it is installed and nothing else tells the power.

jetson-stats 4 and later: `power` has the rails (mW) and `tot`, which bears a name where one rail feeds the
whole board; `temperature` has degrees Celsius; `gpu` and `memory["EMC"]` have clocks in kHz, where there are
any. `uptime` is the board's when the service took them; `stats["time"]` is the clock of who asks. The service
keeps the pace of the client that came first, 1 s for one, whatever rate a later one asks for. What it costs
is not part of what a recorder states as its own cost.
"""

from __future__ import annotations

import importlib
import time
from typing import Any, Optional

from adq_edge.hardware.telemetry.sample import TelemetrySample, Values
from adq_edge.hardware.telemetry.thermal import is_made_up, is_temperature

_PATIENCE_SECONDS = 5.0  # a service with nothing new for so long says nothing any more


class JtopSource:
    """Reads from jtop's service.

    Args:
        hertz: readings per second to ask for.

    Raises:
        Exception: jetson-stats is not installed, its service does not run or cannot be reached; its client
            has no error class that can be named without importing it.
    """

    name = "jtop"
    averages = False

    def __init__(self, hertz: float = 10.0) -> None:
        self._client: Any = importlib.import_module("jtop").jtop(interval=1 / hertz)
        self._client.start()
        try:
            self._client.ok()  # waits for the first figures
        except BaseException:
            self._client.close()
            raise
        self._uptime: Any = None
        self._changed = time.monotonic()

    def read(self) -> Optional[TelemetrySample]:
        """Return what the service said last; None if that was read before, empty if it says no more."""
        if not self._client.ok(spin=True):
            return TelemetrySample()
        uptime, now = self._client.uptime, time.monotonic()
        if uptime == self._uptime:
            return None if now - self._changed < _PATIENCE_SECONDS else TelemetrySample()
        self._uptime, self._changed = uptime, now
        return TelemetrySample(
            power=_power(self._client.power),
            temperatures={
                name: sensor["temp"] if is_temperature(sensor["temp"]) else None
                for name, sensor in self._client.temperature.items()
                if not is_made_up(name)
            },
            clocks=_clocks(self._client.gpu, self._client.memory),
        )

    def cpu_seconds(self) -> float:
        """Return 0: what the service costs it costs anyway."""
        return 0.0

    def close(self) -> None:
        """Leave the service."""
        self._client.close()


def _power(power: Any) -> Values:
    rails = dict(power["rail"])
    if "name" in power["tot"]:
        rails[power["tot"]["name"]] = power["tot"]
    return {name: rail["power"] / 1000 for name, rail in rails.items()}


def _clocks(gpus: Any, memory: Any) -> Values:
    gpu: Any = next(iter(gpus.values()), {})
    clocks = {"gpu": gpu.get("freq", {}).get("cur"), "emc": memory.get("EMC", {}).get("cur")}
    return {name: kilohertz / 1000 for name, kilohertz in clocks.items() if kilohertz is not None}
