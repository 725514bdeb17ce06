"""The board while engines are timed: power, temperatures, clocks, throttling, in a thread of its own.

How a benchmark uses it:

    with contextlib.ExitStack() as stack:
        recorder = open_recorder()                  # None where nothing can be read: then do without
        if recorder is not None:
            stack.enter_context(recorder)           # starts the thread
            recorder.measure_idle(2.0)              # before engines load; sleeps that long
        for engine in turns:                        # interleaved: the same name any number of times
            with recorder.window(engine.name):      # an interval that belongs to this engine
                ...                                 # timed queries and nothing else
            with recorder.window(engine.name, counted=False):
                ...                                 # what else is timed on it
        # while the recorder runs or after it stopped, as often as wanted:
        recording = recorder.recording(engine.name, images=timed_images, seconds=timed_seconds)

`window` and `recording` cost microseconds in the calling thread; none of the methods raises because a reading
failed. Leaving the `with` of the recorder ends the thread, and a program that it may have started, at once;
what was recorded stays.

Throttling, temperatures and clocks are those of all windows, the energy is that of the counted ones. These
count by wall clock. `images` were computed in `seconds` of timed calls, which may be less than the
windows' length. With P the mean power over the windows,

    joules_per_image = P * seconds / images
    joules_per_image_above_idle = (P - idle power) * seconds / images

P is the integral of the power over the windows, by the trapezoidal rule between readings inside a window
(outside it another engine may run, or none), over the length of those windows in which there is a reading.
Differences of an energy counter (RAPL) are means already and are summed instead.
"""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Tuple

from adq_edge.hardware.telemetry.energy import Window, measure_energy
from adq_edge.hardware.telemetry.recording import Recording, Series
from adq_edge.hardware.telemetry.sample import TelemetrySample, TelemetrySource, Values
from adq_edge.hardware.telemetry.sources import open_source

_MOST_JOIN_SECONDS = 2.0  # a driver that hangs in the kernel must not hang the benchmark

# Digits that mean something: 1 mW, 0.01 degC, 0.1 MHz. They keep result files small.
_POWER_DIGITS, _TEMPERATURE_DIGITS, _CLOCK_DIGITS, _TIME_DIGITS = 3, 2, 1, 4


def open_recorder(root: Path = Path("/"), hertz: float = 10.0) -> Optional[Recorder]:
    """Open a recorder of what can be read: from sysfs, else by tegrastats, else from jtop.

    Args:
        root: where `sys`, `usr` and `run` are.
        hertz: readings per second.

    Returns:
        A recorder that is not started yet; None where nothing can be read. It has to be entered, for what it
        reads from is open already.
    """
    source = open_source(root, hertz)
    return None if source is None else Recorder(source, hertz)


class Recorder:
    """Reads a source at a steady rate in a thread of its own, between `__enter__` and `__exit__`.

    Args:
        source: what is read; closed at the end.
        hertz: readings per second that are aimed at.
    """

    def __init__(self, source: TelemetrySource, hertz: float = 10.0) -> None:
        self.source = source
        self._period = 1.0 / hertz
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="board telemetry", daemon=True)
        self._readings: List[Tuple[float, TelemetrySample]] = []
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
        self._thread.join(_MOST_JOIN_SECONDS)

    def measure_idle(self, seconds: float) -> None:
        """Wait while nothing runs, and take the power meanwhile for that of the idle board."""
        start = time.perf_counter()
        self._stop.wait(seconds)
        self._idle.append(Window(start, time.perf_counter()))

    @contextlib.contextmanager
    def window(self, name: str, counted: bool = True) -> Iterator[None]:
        """Mark the time in this context as an engine's; may come again and again.

        Args:
            name: the engine's.
            counted: whether the images are computed in it that the energy is divided by.
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
        """Cut out what was read in the windows of one engine that have ended.

        Args:
            name: the engine's, as given to `window`.
            images: how many images were computed in the counted windows.
            seconds: how long the timed calls in these took in all.
            on_gpu: whether a GPU computed them: on a PC nothing tells the energy then.

        Returns:
            The readings in these windows and the energy; `hertz` and `cost_percent` are of the whole time.
        """
        history, windows = list(self._readings), self._windows.get(name, [])
        inside = [(t, reading) for t, reading in history if any(t in window for window in windows)]
        readings = [reading for _, reading in inside]
        reasons = _throttling(history, windows)
        return Recording(
            source=self.source.name,
            hertz=_hertz([t for t, _ in history]),
            cost_percent=self.cost_percent,
            seconds=tuple(round(t - self._started, _TIME_DIGITS) for t, _ in inside),
            power=_series([reading.power for reading in readings], "W", _POWER_DIGITS),
            temperatures=_series([reading.temperatures for reading in readings], "degC", _TEMPERATURE_DIGITS),
            clocks=_series([reading.clocks for reading in readings], "MHz", _CLOCK_DIGITS),
            throttled=None if reasons is None else bool(reasons),
            throttle_reasons=reasons or (),
            energy=measure_energy(
                [t for t, _ in history],
                [reading.power for _, reading in history],
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
        """Share of one CPU core that reading took so far, a program that it needs included, in percent."""
        return 100.0 * self._cpu_seconds / max(self._ended - self._started, self._period)

    def _run(self) -> None:
        due = time.perf_counter()
        while not self._stop.is_set():
            self._take()
            # One that came late is not made up for: the next ones keep the beat.
            now = time.perf_counter()
            due += self._period * max(1.0, (now - due) // self._period + 1)
            self._stop.wait(due - now)
        with contextlib.suppress(Exception):
            self.source.close()

    def _take(self) -> None:
        # A sensor's whims, whatever they are, must not end a benchmark.
        reading: Optional[TelemetrySample] = TelemetrySample()
        with contextlib.suppress(Exception):
            reading = self.source.read()
        self._ended = time.perf_counter()
        if reading is not None:
            self._readings.append((self._ended, reading))
        with contextlib.suppress(Exception):
            self._cpu_seconds_elsewhere = self.source.cpu_seconds()
        self._cpu_seconds = time.thread_time() + self._cpu_seconds_elsewhere


def _series(readings: List[Values], unit: str, digits: int) -> Tuple[Series, ...]:
    names = dict.fromkeys(name for values in readings for name in values)
    columns = {name: [values.get(name) for values in readings] for name in names}
    return tuple(
        Series(name, unit, tuple(None if value is None else round(value, digits) for value in column))
        for name, column in columns.items()
    )


def _throttling(
    history: List[Tuple[float, TelemetrySample]], windows: List[Window]
) -> Optional[Tuple[str, ...]]:
    """Collect the reasons told for any time in the windows; a reading tells of the time since the last."""
    told = [
        reading.throttling
        for (before, _), (t, reading) in zip(history, history[1:])
        if reading.throttling is not None and any(window.overlaps(before, t) for window in windows)
    ]
    return tuple(dict.fromkeys(reason for reasons in told for reason in reasons)) if told else None


def _hertz(instants: List[float]) -> float:
    span = instants[-1] - instants[0] if instants else 0.0
    return round((len(instants) - 1) / span, 2) if span > 0 else 0.0
