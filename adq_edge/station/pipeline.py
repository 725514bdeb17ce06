"""The way of a trigger to its verdict: threads decode, score and judge; each frame is decided once."""

from __future__ import annotations

import functools
import threading
import time
from typing import Callable, Dict, List, Mapping, Optional, Tuple

import numpy as np

from adq_edge.core.errors import AdqError, first_line
from adq_edge.core.images.arrays import RGB, as_rgb
from adq_edge.core.images.imaging import decode_image, read_product_image
from adq_edge.core.text import printable_message
from adq_edge.decision.inspector import Inspection, Verdict
from adq_edge.evaluation.prediction import Prediction
from adq_edge.station.backlog import Backlog
from adq_edge.station.conditions import Conditions
from adq_edge.station.config import SourceEntry
from adq_edge.station.deadline import DeadlineWatcher, margin
from adq_edge.station.engines import StationEngine, TooLateError
from adq_edge.station.events import Decided, Frame, Image, Ticket, Trigger
from adq_edge.station.jobs import Cause, Job
from adq_edge.station.order import Reorder
from adq_edge.station.records import frame_id, verdict_record
from adq_edge.station.sources.base import Policy
from adq_edge.station.statistics import Statistics

_LEAST_DEADLINE_MS, _DEADLINE_IMAGES = 1000.0, 10
_WORKER_S = 5.0
"""Time that workers have to end once all frames are decided."""
_MISSES = 3
"""Missed deadlines without a result between them, after which the engine hangs or is too slow."""
_NEWER, _FULL = "a newer image came first", "the queue is full: {} images wait for the engine"

Emitted = Tuple[Decided, Ticket]
"""A verdict and the receipt of its trigger."""


class _Lane:
    """The way of one source's frames.

    Attributes:
        entry: the source.
        engine: the engine that judges its images.
        backlog: the frames that wait for the engine.
        order: releases the verdicts in the order of the triggers.
        deadline_ms: time from trigger to verdict.
        accepted: number of frames so far; changed under the lock of the backlog.
        missed: number of missed deadlines since the last result in time.
    """

    def __init__(
        self, entry: SourceEntry, engine: StationEngine, backlog: Backlog, emit: Callable[[Emitted], None]
    ) -> None:
        self.entry, self.engine, self.backlog = entry, engine, backlog
        self.order: Reorder[Emitted] = Reorder(emit)
        longest = max(_LEAST_DEADLINE_MS, _DEADLINE_IMAGES * engine.image_ms)
        self.deadline_ms = entry.options.deadline_ms or longest
        self.accepted = self.missed = 0

    @property
    def has_room(self) -> bool:
        """True if no more images are undecided than the engine scores at the same time."""
        return self.accepted - self.order.released <= self.engine.options.streams


class Pipeline:
    """Gives each accepted trigger exactly one verdict, by its deadline.

    Args:
        station: name of the station.
        start: the first part of all ids.
        engines: the engines by name, warmed up.
        sources: the sources that submit images.
        statistics: counts triggers and verdicts.
        conditions: where an engine without results is reported.
        emit: called with each verdict, in order per source; must be quick.
    """

    def __init__(
        self,
        station: str,
        start: str,
        engines: Mapping[str, StationEngine],
        sources: Mapping[str, SourceEntry],
        statistics: Statistics,
        conditions: Conditions,
        emit: Callable[[Emitted], None],
    ) -> None:
        self._station, self._start, self._statistics = station, start, statistics
        self._conditions = conditions
        backlogs = {name: Backlog() for name in engines}
        self._backlogs = tuple(backlogs.values())
        self._lanes: Dict[str, _Lane] = {}
        for name, entry in sources.items():
            judge = entry.options.engine
            if judge is not None:
                self._lanes[name] = _Lane(entry, engines[judge], backlogs[judge], emit)
        self._watcher = DeadlineWatcher(self._expire)
        self._workers: List[threading.Thread] = []
        for name, engine in engines.items():
            for number in range(engine.options.streams + 1):  # one decodes while the others score
                self._start_worker(f"{name}-{number}", backlogs[name])

    def _start_worker(self, name: str, backlog: Backlog) -> None:
        worker = threading.Thread(target=self._work, args=(backlog,), name=f"worker-{name}", daemon=True)
        worker.start()
        self._workers.append(worker)

    def accept(self, source: str, trigger: Trigger) -> Ticket:
        """Accept a trigger of a source; see `Intake.submit`."""
        lane = self._lanes[source]
        if lane.entry.policy is Policy.WAIT:
            return lane.backlog.put_when_free(
                source, lane.entry.options.queue, lambda: self._job(lane, trigger, time.monotonic())
            ).ticket
        made: List[Job] = []

        def make() -> Job:
            made.append(self._job(lane, trigger, trigger.received))
            return made[0]

        replaced = lane.backlog.put_now(source, lane.entry.options.queue, make, _may_give_way)
        if replaced is not None:
            why = _FULL.format(lane.entry.options.queue) if replaced is made[0] else _NEWER
            self._reject(replaced, why, Cause.REPLACED)
        return made[0].ticket

    def _job(self, lane: _Lane, trigger: Trigger, received: float) -> Job:
        """Return a job with the next number of its source; called under the lock of the backlog."""
        lane.accepted += 1
        name = frame_id(self._start, lane.entry.name, lane.accepted)
        due = received + lane.deadline_ms / 1000.0
        job = Job(Frame(name, lane.entry.name, lane.accepted, due, lane.deadline_ms, trigger), Ticket(name))
        self._statistics.count_trigger()
        self._watcher.watch(job, margin(lane.deadline_ms))
        return job

    def queued(self) -> Mapping[str, int]:
        """Return the number of images that wait for an engine, by source."""
        return {name: lane.backlog.length(name) for name, lane in self._lanes.items()}

    def has_room(self, source: str) -> bool:
        """Return True if no more images of a source are undecided than its engine scores at the same time."""
        return self._lanes[source].has_room

    def deadline_ms(self, source: str) -> float:
        """Return the time from trigger to verdict of a source."""
        return self._lanes[source].deadline_ms

    def _work(self, backlog: Backlog) -> None:
        for job in iter(backlog.take, None):
            frame = job.frame
            if frame is None:  # its deadline has passed
                continue
            try:
                self._judge(job, frame)
            except BaseException as error:  # the frame gets its verdict, and the worker goes on
                text = printable_message(f"{type(error).__name__}: {first_line(error)}")
                self._reject(job, f"internal error: {text}", Cause.FAILED)
            del job, frame  # the image is not kept while the worker waits

    def _judge(self, job: Job, frame: Frame) -> None:
        trigger, engine = frame.trigger, self._lanes[frame.source].engine
        if trigger.problem is not None or trigger.image is None:
            self._reject(job, trigger.problem or "the trigger has no image", Cause.NO_IMAGE)
            return
        try:
            pixels = read_pixels(trigger.image, frame.name)
        except AdqError as error:
            self._reject(job, str(error), Cause.NO_IMAGE)
            return
        try:
            product = trigger.product or self._lanes[frame.source].entry.options.product
            inspection = engine.inspect(
                pixels, frame.name, engine.index_of(product), functools.partial(self._is_late, job, frame)
            )
        except TooLateError:  # it gets its verdict at its deadline
            return
        except AdqError as error:
            self._reject(job, str(error), Cause.FAILED, pixels)
            return
        failed = Cause.FAILED if inspection.verdict is Verdict.CANNOT_JUDGE else None
        self._decide(job, inspection, failed, pixels)

    def _is_late(self, job: Job, frame: Frame, image_ms: float, others_wait: bool) -> bool:
        """Return True if a frame has its verdict, or would have a result too late while others wait.

        Else, if more images come than the engine can score, each would be begun and be late.
        """
        if job.is_decided:
            return True
        lane = self._lanes[frame.source]
        end = time.monotonic() + image_ms / 1000.0
        return end > frame.due - margin(lane.deadline_ms) and (others_wait or lane.backlog.is_waiting())

    def _expire(self, job: Job) -> None:
        frame = job.frame
        if frame is not None:
            self._lanes[frame.source].backlog.discard(frame.source, job)
            self._reject(job, f"no result within {frame.deadline_ms:g} ms", Cause.MISSED)

    def _reject(self, job: Job, reason: str, cause: Cause, pixels: Optional[np.ndarray] = None) -> None:
        frame = job.frame
        if frame is not None:
            self._decide(job, Inspection(frame.name, Verdict.CANNOT_JUDGE, reason=reason), cause, pixels)

    def _decide(
        self, job: Job, inspection: Inspection, cause: Optional[Cause], pixels: Optional[np.ndarray]
    ) -> None:
        """Give a frame its verdict, unless it has one."""
        frame = job.frame
        if frame is None:
            return
        now = time.monotonic()
        latency_ms = 1000.0 * (now - frame.due) + frame.deadline_ms
        prediction, is_on_time = Prediction.of(inspection), now <= frame.due
        record = verdict_record(self._station, frame, prediction, time.time(), latency_ms, is_on_time)
        decided = Decided(frame, prediction, record, pixels, latency_ms, is_on_time)
        if not job.claim():  # last of all: what has failed before is decided by the next attempt
            return
        self._statistics.count_verdict(decided, cause)
        job.ticket.decided.set_result(record)
        lane = self._lanes[frame.source]
        self._report_misses(lane, cause, is_on_time)
        lane.order.add(frame.sequence, (decided, job.ticket))

    def _report_misses(self, lane: _Lane, cause: Optional[Cause], is_on_time: bool) -> None:
        """Report several missed deadlines one after another, until a result comes in time."""
        subject = f"deadlines of source {lane.entry.name}"
        if cause is Cause.MISSED:
            lane.missed += 1
            if lane.missed >= _MISSES:
                what = f"{_MISSES} or more triggers in a row had no result in time"
                self._conditions.report(subject, f"{what}: the engine hangs or is too slow")
        elif cause is None and is_on_time and lane.missed:
            lane.missed = 0
            self._conditions.report(subject, None)

    def close(self) -> None:
        """Accept no more triggers, and return once each accepted one has its verdict."""
        for backlog in self._backlogs:
            backlog.close()
        self._watcher.close()
        until = time.monotonic() + _WORKER_S
        for worker in self._workers:  # one may hang in its runtime; its frame has been decided
            worker.join(max(0.0, until - time.monotonic()))


def _may_give_way(job: Job) -> bool:
    """Return True for an image of a camera that runs freely, and for a job that is decided."""
    frame = job.frame
    return frame is None or not frame.trigger.is_triggered


def read_pixels(image: Image, name: str) -> np.ndarray:
    """Return an image as uint8 `[H, W, 3]` RGB.

    Raises:
        DataError: an array of another type or shape, or no whole image of a supported kind.
        StorageError: its file cannot be read.
    """
    if isinstance(image, np.ndarray):
        return as_rgb(image, RGB, name)
    return decode_image(image) if isinstance(image, bytes) else read_product_image(image)
