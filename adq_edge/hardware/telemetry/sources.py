"""Choice of the telemetry source: sysfs, else tegrastats, else jtop; throttling always from sysfs."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import Callable, Optional

from adq_edge.hardware.telemetry.jtop import JtopSource
from adq_edge.hardware.telemetry.sample import TelemetrySample, TelemetrySource
from adq_edge.hardware.telemetry.sysfs import SysfsSource
from adq_edge.hardware.telemetry.tegrastats import TegrastatsSource
from adq_edge.hardware.telemetry.throttling import Throttling


class _WithThrottling:
    """Adds the throttling from sysfs to a source that does not report it."""

    def __init__(self, source: TelemetrySource, throttling: Throttling) -> None:
        self.name, self.averages = source.name, source.averages
        self._source, self._throttling = source, throttling

    def read(self) -> Optional[TelemetrySample]:
        sample: Optional[TelemetrySample] = TelemetrySample()
        with contextlib.suppress(Exception):  # throttling is reported even if the source fails
            sample = self._source.read()
        if sample is None:  # the next sample reports the throttling of this interval too
            return None
        return dataclasses.replace(sample, throttling=self._throttling.read())

    def cpu_seconds(self) -> float:
        return self._source.cpu_seconds()

    def close(self) -> None:
        self._source.close()


def open_source(root: Path = Path("/"), hertz: float = 10.0) -> Optional[TelemetrySource]:
    """Open the first source that reports power, else sysfs if it reports any value, else None.

    The caller closes the source, and reads `hertz` samples per second from it.
    """
    sysfs = SysfsSource(root)
    first = sysfs.read()
    if first.power:
        return sysfs
    other = _with_power(root / "usr" / "bin" / "tegrastats", lambda path: TegrastatsSource(path, hertz))
    if other is None:
        other = _with_power(root / "run" / "jtop.sock", lambda _: JtopSource(hertz))
    if other is None and first.has_values:
        return sysfs
    return None if other is None else _WithThrottling(other, Throttling(root))


def _with_power(marker: Path, open_it: Callable[[Path], TelemetrySource]) -> Optional[TelemetrySource]:
    """Open a source if its file `marker` exists; None if it does not open or reports no power."""
    if not marker.exists():
        return None
    try:
        source = open_it(marker)
    except Exception:  # a broken program or service may raise any error
        return None
    has_power = False
    try:
        with contextlib.suppress(Exception):
            first = source.read()
            has_power = first is not None and bool(first.power)
    finally:  # after Ctrl-C too
        if not has_power:
            with contextlib.suppress(Exception):
                source.close()
    return source if has_power else None
