"""Samples from tegrastats, NVIDIA's program for Jetsons, used if /sys reports no power.

Its line format differs between releases (NVIDIA's developer guide, "Tegrastats Utility"; examples are in
tests/data/tegrastats). Rails are `VDD_IN 4067/4067`, `VDD_IN 4906mW/4906mW` or, with a peak,
`VIN 26686mW/26686mW/26686mW`: current value, mean and peak since the start, in mW. Temperatures are
`GPU@41.5C` or, with the peak, `gpu@58.25C/61.75C`. Clocks are in MHz.
"""

from __future__ import annotations

import os
import re
import selectors
import subprocess
import time
from pathlib import Path
from typing import Optional

from adq_edge.hardware.procfs import process_seconds
from adq_edge.hardware.telemetry.sample import (
    TelemetrySample,
    Values,
    plausible_clocks,
    plausible_power,
)
from adq_edge.hardware.telemetry.thermal import real_temperatures

_RAIL = re.compile(r"(?<!\S)([A-Za-z]\w*) (\d{1,7})(?:mW)?(?:/\d{1,7}(?:mW)?){1,2}(?!\S)", re.ASCII)
_TEMPERATURE = re.compile(r"(?<!\S)([A-Za-z][\w-]*)@(-?\d{1,3}(?:\.\d{1,6})?)C(?:/\S*)?(?!\S)", re.ASCII)
_CLOCK = re.compile(r"(?<!\S)(GR3D|EMC)_FREQ (?:\d+%)?@\[?(\d{1,5}(?:,\d{1,5})*)", re.ASCII)
_PROCESSOR = re.compile(r"(?<!\S)CPU \[([^\]]*)\](?:@(\d{1,5}))?", re.ASCII)
_CORE_CLOCK = re.compile(r"%@(\d{1,5})", re.ASCII)

_CLOCK_NAMES = {"GR3D": "gpu", "EMC": "emc"}
_FIRST_SECONDS, _WAIT_SECONDS = 5.0, 1.0
_END_SECONDS = 1.0
_MAX_LINE_BYTES = 1 << 16


def parse_line(line: str) -> Optional[TelemetrySample]:
    """Parse a line of tegrastats; None for a line without a known value. Never raises."""
    sample = TelemetrySample(
        power=plausible_power({name: int(milliwatts) / 1000 for name, milliwatts in _RAIL.findall(line)}),
        temperatures=real_temperatures({name: float(text) for name, text in _TEMPERATURE.findall(line)}),
        clocks=plausible_clocks({**_clocks(line), **_core_clocks(line)}),
    )
    return sample if sample.has_values else None


class TegrastatsSource:
    """Runs tegrastats and reads its newest line.

    Args:
        program: path of tegrastats.
        hertz: lines per second to request.

    Raises:
        OSError: the program cannot be run.
    """

    name = "tegrastats"
    averages = False

    def __init__(self, program: Path, hertz: float = 10.0) -> None:
        self._process = subprocess.Popen(
            [str(program), "--interval", str(max(1, round(1000 / hertz)))],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        )
        self._text = b""
        self._timeout = _FIRST_SECONDS
        self._cpu_seconds = 0.0

    def read(self) -> TelemetrySample:
        """Return the values of the newest line; empty if there is no line within 5 s, later within 1 s."""
        limit, self._timeout = time.monotonic() + self._timeout, _WAIT_SECONDS
        while self._receive(limit - time.monotonic()):
            whole, _, rest = self._text.rpartition(b"\n")
            self._text = rest[-_MAX_LINE_BYTES:]
            # There may be several lines since the last call, and warnings between them.
            for line in reversed(whole.decode("utf-8", errors="replace").splitlines()):
                sample = parse_line(line)
                if sample is not None:
                    return sample
        return TelemetrySample()

    def cpu_seconds(self) -> float:
        """Return the CPU time of the program in s."""
        self._cpu_seconds = max(self._cpu_seconds, process_seconds(self._process.pid))  # 0 once it has ended
        return self._cpu_seconds

    def close(self) -> None:
        """Terminate the program; kill it if it still runs after 1 s."""
        self._process.terminate()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _receive(self, seconds: float) -> bool:
        """Wait for output; False if the program has ended or the time is over."""
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if seconds <= 0 or not selector.select(seconds):
                return False
        received = os.read(self._process.stdout.fileno(), _MAX_LINE_BYTES)
        self._text += received
        return bool(received)


def _clocks(line: str) -> Values:
    # `@[611,0]` has one clock for each cluster of the GPU; 0 for a cluster without power.
    return {
        _CLOCK_NAMES[name]: float(max(map(int, clocks.split(",")))) for name, clocks in _CLOCK.findall(line)
    }


def _core_clocks(line: str) -> Values:
    found = _PROCESSOR.search(line)
    if found is None:
        return {}
    clocks: Values = {}
    for number, core in enumerate(found.group(1).split(",")):
        own = _CORE_CLOCK.search(core)
        common = found.group(2) if "%" in core else None
        clock = own.group(1) if own is not None else common
        clocks[f"cpu{number}"] = None if clock is None else float(clock)
    return clocks if any(clock is not None for clock in clocks.values()) else {}
