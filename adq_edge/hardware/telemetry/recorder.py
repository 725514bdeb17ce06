"""Recorder of power, temperatures, clocks and throttling, in a thread, while engines are timed.

    recorder = open_recorder()                      # None if no value can be read
    with recorder:
        recorder.measure_idle(2.0)                  # before engines load; sleeps 2 s
        for engine in turns:                        # a name may repeat
            with recorder.window(engine.name):
                ...                                 # timed queries only
            with recorder.window(engine.name, counted=False):
                ...                                 # other timed work of this engine
        recording = recorder.recording(engine.name, images=timed_images, seconds=timed_seconds)

`window` and `recording` take microseconds in the calling thread. A failed reading raises no exception. At
its end, the recorder's block stops the thread and any program of the source; the samples are kept.

Throttling, temperatures and clocks cover all windows. The energy covers only the counted windows, in which
`images` were computed in `seconds` of timed calls. With the mean power P over these windows,

    joules_per_image = P * seconds / images
    joules_per_image_above_idle = (P - idle power) * seconds / images
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Tuple

from adq_edge.hardware.telemetry.energy import Window, measure_energy
from adq_edge.hardware.telemetry.recording import Recording, Series
from adq_edge.hardware.telemetry.sample import TelemetrySample, TelemetrySource, Values
from adq_edge.hardware.telemetry.sources import open_source

_MAX_JOIN_SECONDS = 2.0  # a driver that hangs in the kernel must not hang the benchmark

# Round to 1 mW, 0.01 degC, 0.1 MHz and 0.1 ms, to keep result files small.
_POWER_DIGITS, _TEMPERATURE_DIGITS, _CLOCK_DIGITS, _TIME_DIGITS = 3, 2, 1, 4

_MOST_VALUES = 10**6
"""In the recordings of all engines: two hours of 12 sensors at 10 Hz. `parse_json` reads twice as many."""


def open_recorder(root: Path = Path("/"), hertz: float = 10.0) -> Optional[Recorder]:
    """Open a recorder with `hertz` samples per second from sysfs, else tegrastats, else jtop.

    Returns:
        A recorder; enter it, because only its exit closes the open source. None if no value can be read.
    """
    source = open_source(root, hertz)
    return None if source is None else Recorder(source, hertz)


class Recorder:
    """Samples a source at a fixed rate in a thread, between `__enter__` and `__exit__`.

    Args:
        source: the source; closed at the end.
        hertz: samples per second to attempt.
    """

    def __init__(self, source: TelemetrySource, hertz: float = 10.0) -> None:
        self.source = source
        self._period = 1.0 / hertz
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="board telemetry", daemon=True)
        self._samples: List[Tuple[float, TelemetrySample]] = []
        self._windows: Dict[str, List[Window]] = {}
        self._counted: Dict[str, List[Window]] = {}
        self._idle: List[Window] = []
        self._started = self._ended = time.perf_counter()
        self._cpu_seconds = self._cpu_seconds_elsewhere = 0.0

    def __enter__(self) -> Recorder:
        self._started = time.perf_counter()
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join(_MAX_JOIN_SECONDS)

    def measure_idle(self, seconds: float) -> None:
        """Wait while nothing runs; the power in this time is the idle power."""
        start = time.perf_counter()
        self._stop.wait(seconds)
        self._idle.append(Window(start, time.perf_counter()))

    @contextlib.contextmanager
    def window(self, name: str, counted: bool = True) -> Iterator[None]:
        """Assign the time of this block to an engine.

        Args:
            counted: whether this block computes the images that the energy is divided by.
        """
        start = time.perf_counter()
        try:
            yield
        finally:
            window = Window(start, time.perf_counter())
            self._windows.setdefault(name, []).append(window)
            if counted:
                self._counted.setdefault(name, []).append(window)

    def recording(self, name: str, images: int, seconds: float, on_gpu: bool = False) -> Recording:
        """Return the samples and the energy of the finished windows of one engine.

        Args:
            name: name of the engine.
            images: number of images that were computed in the counted windows.
            seconds: total duration of the timed calls in these windows.
            on_gpu: whether a GPU computed them; no sensor measures the graphics card of a PC.

        Returns:
            The recording; its `hertz` and `cost_percent` cover the whole recording time. After hours, it has
            every n-th sample, so that its result file can be read again; energy and throttling use all.
        """
        history, windows = list(self._samples), self._windows.get(name, [])
        inside = [(t, sample) for t, sample in history if any(t in window for window in windows)]
        inside = _thinned(inside, _MOST_VALUES // max(1, len(self._windows)))
        samples = [sample for _, sample in inside]
        reasons = _throttling(history, windows)
        return Recording(
            source=self.source.name,
            hertz=_hertz([t for t, _ in history]),
            cost_percent=self.cost_percent,
            seconds=tuple(round(t - self._started, _TIME_DIGITS) for t, _ in inside),
            power=_series([sample.power for sample in samples], "W", _POWER_DIGITS),
            temperatures=_series([sample.temperatures for sample in samples], "degC", _TEMPERATURE_DIGITS),
            clocks=_series([sample.clocks for sample in samples], "MHz", _CLOCK_DIGITS),
            throttled=None if reasons is None else bool(reasons),
            throttle_reasons=reasons or (),
            energy=measure_energy(
                [t for t, _ in history],
                [sample.power for _, sample in history],
                self._counted.get(name, []),
                self._idle,
                self.source.averages,
                images,
                seconds,
                on_gpu,
            ),
        )

    @property
    def cost_percent(self) -> float:
        """CPU time of the sampling so far, its program included, in percent of one core."""
        return 100.0 * self._cpu_seconds / max(self._ended - self._started, self._period)

    def _run(self) -> None:
        due = time.perf_counter()
        while not self._stop.is_set():
            self._take_sample()
            # Skip the instants that a late sample missed; later samples keep the schedule.
            now = time.perf_counter()
            due += self._period * max(1.0, (now - due) // self._period + 1)
            self._stop.wait(due - now)
        with contextlib.suppress(Exception):
            self.source.close()

    def _take_sample(self) -> None:
        # A failed sensor must not end a benchmark.
        sample: Optional[TelemetrySample] = TelemetrySample()
        with contextlib.suppress(Exception):
            sample = self.source.read()
        self._ended = time.perf_counter()
        if sample is not None:
            self._samples.append((self._ended, sample))
        with contextlib.suppress(Exception):
            self._cpu_seconds_elsewhere = self.source.cpu_seconds()
        self._cpu_seconds = time.thread_time() + self._cpu_seconds_elsewhere


def _thinned(
    samples: List[Tuple[float, TelemetrySample]], most_values: int
) -> List[Tuple[float, TelemetrySample]]:
    """Return every n-th sample, so that at most `most_values` values and instants are left."""
    kinds = ("power", "temperatures", "clocks")
    sensors = {(kind, name) for _, sample in samples for kind in kinds for name in getattr(sample, kind)}
    return samples[:: max(1, math.ceil(len(samples) * (1 + len(sensors)) / most_values))]


def _series(samples: List[Values], unit: str, digits: int) -> Tuple[Series, ...]:
    names = dict.fromkeys(name for values in samples for name in values)
    columns = {name: [values.get(name) for values in samples] for name in names}
    return tuple(
        Series(name, unit, tuple(None if value is None else round(value, digits) for value in column))
        for name, column in columns.items()
    )


def _throttling(
    history: List[Tuple[float, TelemetrySample]], windows: List[Window]
) -> Optional[Tuple[str, ...]]:
    """Return the reasons for throttling in the windows; each sample covers the time since the last."""
    reported = [
        sample.throttling
        for (before, _), (t, sample) in zip(history, history[1:])
        if sample.throttling is not None and any(window.overlaps(before, t) for window in windows)
    ]
    return tuple(dict.fromkeys(reason for reasons in reported for reason in reasons)) if reported else None


def _hertz(instants: List[float]) -> float:
    span = instants[-1] - instants[0] if instants else 0.0
    return round((len(instants) - 1) / span, 2) if span > 0 else 0.0
