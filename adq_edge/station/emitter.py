"""Passes each verdict to the services and into the store, in order per source."""

from __future__ import annotations

import queue
import threading
from typing import Collection, List, Mapping, Optional, Set

from adq_edge.core.errors import first_line
from adq_edge.core.text import printable_message
from adq_edge.station.conditions import Conditions
from adq_edge.station.config import SinkEntry
from adq_edge.station.events import Decided, Ticket
from adq_edge.station.image_files import NO_IMAGES, KeptImages
from adq_edge.station.pipeline import Emitted
from adq_edge.station.services.base import Service
from adq_edge.station.store import Store

_MOST_QUEUED = 100
"""Verdicts in the queue from which on no images are written: verdicts go first."""


class Emitter:
    """One thread behind the pipeline.

    Args:
        store: the store.
        sinks: the sinks by name.
        services: the services by name.
        kept: the verdicts whose images are kept in any case.
        conditions: where failures of services and of image files are reported.
    """

    def __init__(
        self,
        store: Store,
        sinks: Mapping[str, SinkEntry],
        services: Mapping[str, Service],
        kept: Collection[str],
        conditions: Conditions,
    ) -> None:
        self._store, self._sinks, self._services = store, sinks, services
        self._kept, self._conditions = kept, conditions
        self._failing: Set[str] = set()
        self._queue: queue.SimpleQueue[Optional[Emitted]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="emitter", daemon=True)
        self._thread.start()

    def emit(self, emitted: Emitted) -> None:
        """Add a verdict to the queue."""
        self._queue.put(emitted)

    def _run(self) -> None:
        for emitted in iter(self._queue.get, None):
            try:
                self._pass_on(*emitted)
            except Exception as error:  # the thread must go on, whatever a record holds
                text = printable_message(f"{type(error).__name__}: {first_line(error)}")
                self._conditions.report("emitter", f"a verdict could not be stored ({text})")
            del emitted  # the image is not kept while the thread waits

    def _pass_on(self, decided: Decided, ticket: Ticket) -> None:
        """Show a verdict to the services, write its images and store it.

        Args:
            decided: the verdict.
            ticket: the receipt of its trigger.
        """
        for name, service in self._services.items():
            self._observe(name, service, decided)
        sinks = [name for name, entry in self._sinks.items() if self._is_wanted(name, entry, decided)]
        kept = self._keep_images(decided, sinks)
        self._store.add(decided.record, ticket, sinks, decided.frame.trigger.key, kept)

    def _observe(self, name: str, service: Service, decided: Decided) -> None:
        try:
            service.observe(decided)
        except Exception as error:  # a failure of a service never stops the line
            text = printable_message(f"{type(error).__name__}: {first_line(error)}")
            self._conditions.report(f"service {name}", f"missed a verdict ({text})")
            self._failing.add(name)
            return
        if name in self._failing:
            self._failing.discard(name)
            self._conditions.report(f"service {name}", None)

    def _is_wanted(self, name: str, entry: SinkEntry, decided: Decided) -> bool:
        try:
            return entry.wants(decided.record)
        except Exception as error:  # a verdict too many is better than one too few
            self._conditions.report(f"sink {name}", printable_message(f"cannot choose verdicts ({error})"))
            return True

    def _keep_images(self, decided: Decided, sinks: List[str]) -> KeptImages:
        """Write the image files if a sink or the station file asks for them."""
        is_needed = any(self._sinks[name].sink.needs_images for name in sinks)
        if not (is_needed or decided.verdict in self._kept):
            return NO_IMAGES
        if self._queue.qsize() > _MOST_QUEUED or self._store.unstored:
            self._conditions.report("store images", "not all images are written: verdicts go first")
            return NO_IMAGES
        try:
            kept = self._store.images.write(decided)
        except OSError as error:
            self._conditions.report("store images", printable_message(f"cannot be written ({error})"))
            return NO_IMAGES
        except Exception as error:  # of OpenCV
            self._conditions.report("store images", printable_message(f"cannot be drawn ({error})"))
            return NO_IMAGES
        self._conditions.report("store images", None)
        return kept

    def close(self) -> None:
        """Pass on what is in the queue, and stop."""
        self._queue.put(None)
        self._thread.join()
