"""An inspection station: engines, sources, pipeline, store, sinks and services, from start to end."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Dict, Iterator, List, Optional

import numpy as np

from adq_edge.core.errors import AdqError, DataError, StationError, first_line
from adq_edge.core.scratch import temporary_folder
from adq_edge.station.conditions import Conditions
from adq_edge.station.config import StationConfig
from adq_edge.station.delivery import Delivery
from adq_edge.station.emitter import Emitter
from adq_edge.station.engines import StationEngine
from adq_edge.station.intake import Intake
from adq_edge.station.jobs import Cause
from adq_edge.station.options import StoreOptions
from adq_edge.station.pipeline import Pipeline
from adq_edge.station.records import start_text
from adq_edge.station.source_runner import SourceIntake, SourceRunner
from adq_edge.station.statistics import Statistics
from adq_edge.station.store import Store
from adq_edge.station.view import Snapshot

_SOURCE_S, _FLUSH_S = 5.0, 5.0
"""Time that sources have to return, and the store to write what is in memory."""


class Station:
    """A running station; a context manager that starts it, and ends it without losing a verdict.

    Args:
        config: the station file.

    Attributes:
        config: the station file.
        conditions: the current problems.
        engines: the loaded engines by name.
    """

    def __init__(self, config: StationConfig) -> None:
        self.config, self.conditions = config, Conditions()
        self._statistics = Statistics()
        self._ended = threading.Event()
        self._parts = contextlib.ExitStack()
        self.engines: Dict[str, StationEngine] = {}
        self._runners: Dict[str, SourceRunner] = {}
        self._store: Store
        self._pipeline: Pipeline

    def __enter__(self) -> Station:
        """Start everything: engines first, sources last.

        Raises:
            AdqError: an engine, the store, a service or every source cannot start; nothing is left running.
        """
        try:
            self._start()
        except BaseException:
            self._parts.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        """End the station: judge and store what was accepted, and deliver it for `drain_s`."""
        self._parts.close()

    def _start(self) -> None:
        """Start the parts; the stack ends them in the reverse order."""
        self._check()
        self._open_engines()
        store = self._store = self._open_store()
        self._parts.callback(self._close_store)
        for entry in self.config.sinks.values():
            entry.sink.attach(self)
        deliveries = [Delivery(one.sink, store, self.conditions) for one in self.config.sinks.values()]
        self._parts.callback(self._stop_deliveries, deliveries)
        started: List[str] = []
        self._parts.callback(self._close_services, started)
        kept = () if self.config.store is None else self.config.store.images
        emitter = Emitter(store, self.config.sinks, self.config.services, kept, self.conditions)
        self._parts.callback(emitter.close)
        name, sources = self.config.station.name, self.config.sources
        start = start_text(store.start)
        self._pipeline = Pipeline(
            name, start, self.engines, sources, self._statistics, self.conditions, emitter.emit
        )
        self._parts.callback(self._pipeline.close)
        self._make_runners()
        for name, service in self.config.services.items():
            service.start(self)
            started.append(name)
        self._parts.callback(self._stop_sources)
        for runner in self._runners.values():
            runner.start()

    def _check(self) -> None:
        for source in self.config.sources.values():
            with _errors_of(f"source {source.name}"):
                source.source.check()
        for sink in self.config.sinks.values():
            with _errors_of(f"sink {sink.name}"):
                sink.sink.check()
        for name, service in self.config.services.items():
            with _errors_of(f"service {name}"):
                service.check()
        problems: Dict[str, AdqError] = {}
        for name, source in self.config.sources.items():
            try:
                source.source.probe()
            except AdqError as error:
                problems[name] = error
        if len(problems) == len(self.config.sources):
            raise next(iter(problems.values()))
        for name, problem in problems.items():
            self.conditions.report(f"source {name}", str(problem))

    def _open_engines(self) -> None:
        engines = self.engines
        for name, options in self.config.engines.items():
            engine = engines[name] = StationEngine(name, options, self.conditions)
            self._parts.callback(engine.close)
            engine.warm_up()
        for source in self.config.sources.values():
            deadline_ms, judge = source.options.deadline_ms, source.options.engine
            if judge is None:
                continue
            engines[judge].index_of(source.options.product)
            image_ms = engines[judge].image_ms
            if deadline_ms is not None and image_ms > deadline_ms:
                problem = f"an image takes {image_ms:.0f} ms, the deadline is {deadline_ms:g} ms"
                self.conditions.report(f"deadline of source {source.name}", problem)

    def _open_store(self) -> Store:
        """Return the store; without a table `[store]` one that is deleted at the end."""
        options = self.config.store
        if options is None:
            options = StoreOptions(self._parts.enter_context(temporary_folder()))
        return Store(options.folder, options, list(self.config.sinks), self.conditions)

    def _make_runners(self) -> None:
        for name, entry in self.config.sources.items():
            intake = SourceIntake(entry.source, self._pipeline, self._store, self.capture, self.conditions)
            self._runners[name] = SourceRunner(entry.source, intake, self._source_ended)

    def _source_ended(self) -> None:
        """End the wait once no source has anything more to judge; cameras for others do not count."""
        judged = [runner for runner in self._runners.values() if runner.source.needs_engine]
        if all(runner.has_ended for runner in judged):
            self._ended.set()

    def capture(self, camera: str, timeout_s: float) -> np.ndarray:
        """Return the next image of a camera, uint8 `[H, W, 3]` RGB.

        Raises:
            DataError: there is no such camera, or it gives no image in time.
        """
        entry = self.config.sources.get(camera)
        if entry is None:
            raise DataError(
                f"no camera named {camera!r}", where="station", fix="Name a source of type 'camera'"
            )
        return entry.source.capture(timeout_s)

    def intake(self, source: str) -> Intake:
        """Return the way in for the triggers of a source.

        Raises:
            StationError: there is no such source.
        """
        runner = self._runners.get(source)
        if runner is None:
            names = ", ".join(self.config.sources)
            raise StationError(f"no source named {source!r}", where="station", fix=f"Sources: {names}")
        return runner.intake

    def request_stop(self) -> None:
        """End `wait`; any thread and a signal handler may call it."""
        self._ended.set()

    def wait(self, timeout_s: Optional[float] = None) -> bool:
        """Wait until the station is asked to stop or has nothing more to judge; return True then."""
        return self._ended.wait(timeout_s)

    def snapshot(self) -> Snapshot:
        """Return the figures of the station; also after its end."""
        counts, store = self._statistics.counts(), self._store
        return Snapshot(
            started=self._statistics.started,
            accepted=counts.accepted,
            verdicts=counts.verdicts,
            products=counts.products,
            missed=counts.causes.get(Cause.MISSED, 0),
            replaced=counts.causes.get(Cause.REPLACED, 0),
            failed=counts.causes.get(Cause.FAILED, 0),
            latency=counts.latency,
            queued=self._pipeline.queued(),
            waiting=store.waiting,
            refused=store.refused,
            unstored=store.unstored,
            lost=store.lost,
            conditions=self.conditions.current,
        )

    def _stop_sources(self) -> None:
        for runner in self._runners.values():
            runner.intake.stop()
        self._ended.set()
        until = time.monotonic() + _SOURCE_S
        for runner in self._runners.values():
            runner.join(until)

    def _close_services(self, started: List[str]) -> None:
        for name in started:
            try:
                self.config.services[name].close()
            except Exception as error:  # the sinks and the store are still to be closed
                self.conditions.report(f"service {name}", f"cannot be stopped ({first_line(error)})")

    def _stop_deliveries(self, deliveries: List[Delivery]) -> None:
        self._store.flush(_FLUSH_S)
        until = time.monotonic() + self.config.station.drain_s
        for delivery in deliveries:
            delivery.request_stop(until)
        for delivery in deliveries:
            delivery.join(until)
        for sink, count in self._store.waiting.items():
            if count:
                self.conditions.report(f"delivery to {sink}", f"{count} verdicts wait for the next start")

    def _close_store(self) -> None:
        count = self._store.close()
        if count:
            self.conditions.report("store", f"{count} verdicts could neither be written nor delivered")


@contextlib.contextmanager
def _errors_of(part: str) -> Iterator[None]:
    """Let errors name the part of the station that has the problem."""
    try:
        yield
    except AdqError as error:
        where = part if error.where is None else f"{part}: {error.where}"
        raise type(error)(error.what, where=where, fix=error.fix) from error
