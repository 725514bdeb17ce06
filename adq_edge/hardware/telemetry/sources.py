"""Which source of readings a machine has: sysfs, else tegrastats, else jtop; throttling from sysfs always."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import Callable, Optional

from adq_edge.hardware.telemetry.jtop import JtopSource
from adq_edge.hardware.telemetry.sample import TelemetrySample, TelemetrySource, Values
from adq_edge.hardware.telemetry.sysfs import SysfsSource
from adq_edge.hardware.telemetry.tegrastats import TegrastatsSource
from adq_edge.hardware.telemetry.throttling import Throttling


class _WithThrottling:
    """A source that does not tell of throttling, and what sysfs tells of it."""

    def __init__(self, source: TelemetrySource, throttling: Throttling) -> None:
        self.name, self.averages = source.name, source.averages
        self._source, self._throttling = source, throttling

    def read(self) -> Optional[TelemetrySample]:
        reading: Optional[TelemetrySample] = TelemetrySample()
        with contextlib.suppress(Exception):  # the one must not silence the other
            reading = self._source.read()
        if reading is None:  # the next one tells of the time since the one before
            return None
        return dataclasses.replace(reading, throttling=self._throttling.read())

    def cpu_seconds(self) -> float:
        return self._source.cpu_seconds()

    def close(self) -> None:
        self._throttling.close()
        self._source.close()


def open_source(root: Path = Path("/"), hertz: float = 10.0) -> Optional[TelemetrySource]:
    """Open the first source that tells the power, else sysfs if that tells anything at all.

    Args:
        root: where `sys`, `usr` and `run` are.
        hertz: readings per second that will be wanted.

    Returns:
        None where nothing can be read; else a source that the caller closes.
    """
    sysfs = SysfsSource(root)
    first = sysfs.read()
    if first.power:
        return sysfs
    other = _with_power(root / "usr" / "bin" / "tegrastats", lambda path: TegrastatsSource(path, hertz))
    if other is None:
        other = _with_power(root / "run" / "jtop.sock", lambda _: JtopSource(hertz))
    if other is None and first.tells:
        return sysfs
    sysfs.close()
    return None if other is None else _WithThrottling(other, Throttling(root))


def _with_power(mark: Path, opens: Callable[[Path], TelemetrySource]) -> Optional[TelemetrySource]:
    """Open a source whose mark is there; None if it does not open or tells no power."""
    if not mark.exists():
        return None
    try:
        source = opens(mark)
    except Exception:  # a program or a service that does not work is no source, whatever its error
        return None
    told: Values = {}
    try:
        with contextlib.suppress(Exception):
            first = source.read()
            told = {} if first is None else first.power
    finally:  # after Ctrl-C too
        if not told:
            with contextlib.suppress(Exception):
                source.close()
    return source if told else None
