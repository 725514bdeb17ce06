"""Messages, views and intakes for tests of one source, sink or service."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

import numpy as np

from adq_edge.station.conditions import Conditions
from adq_edge.station.config import parse_config
from adq_edge.station.events import Message, Ticket, Trigger
from adq_edge.station.intake import Intake, Stopped
from adq_edge.station.tables import Place


def record_of(number: int, source: str = "top", verdict: str = "good", **fields: Any) -> Dict[str, Any]:
    return {
        "schema": "adq-edge/verdict",
        "version": 1,
        "station": "press 4",
        "source": source,
        "id": f"01h00000-{source}-{number:09}",
        "sequence": number,
        "verdict": verdict,
        "product": "bolt",
        "taken_at": "2026-11-30T14:05:12.345Z",
        "decided_at": "2026-11-30T14:05:12.365Z",
        "latency_ms": 20.5,
        "deadline_ms": 100.0,
        "on_time": True,
        "normalized_score": 1.25,
        "p_value": 0.2,
        "false_rejects": 0.005,
        "regions": [],
        "reason": None,
        "fields": {"serial": "17"},
        **fields,
    }


def message(number: int, source: str = "top", verdict: str = "good", **fields: Any) -> Message:
    record = record_of(number, source, verdict, **fields)
    return Message(number, record, json.dumps(record))


class View:
    """The part of a station that a sink sees: its name, its sources and its problems."""

    def __init__(self, *sources: str) -> None:
        document = {
            "station": {"name": "press 4"},
            "engines": {"parts": {"file": "parts.onnx"}},
            "sources": {name: {"type": "calls"} for name in sources or ("top",)},
        }
        self.config, self.conditions = parse_config(document, Place("station.toml", Path(), "")), Conditions()


class RecordingIntake(Intake):
    """Gives each trigger a verdict from a function, at once."""

    def __init__(self, decide: Optional[Callable[[Trigger, int], Dict[str, Any]]] = None) -> None:
        self.triggers: List[Trigger] = []
        self.tickets: List[Ticket] = []
        self.problems: List[Optional[str]] = []
        self.changed = threading.Condition()
        self.stop = threading.Event()
        self._decide = decide

    def submit(self, trigger: Trigger) -> Ticket:
        if self.stop.is_set():
            raise Stopped
        with self.changed:
            self.triggers.append(trigger)
            number = len(self.triggers)
            ticket = Ticket(f"id-{number}")
            self.tickets.append(ticket)
            if self._decide is not None:
                record = self._decide(trigger, number)
                ticket.decided.set_result(record)
                ticket.stored.set_result(record)
            self.changed.notify_all()
        return ticket

    def wait_for(self, count: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.triggers) >= count, 20), self.problems

    def capture(self, camera: str, timeout_s: float) -> np.ndarray:
        raise NotImplementedError

    def is_known(self, key: str) -> bool:
        return False

    def has_room(self) -> bool:
        return True

    def report(self, problem: Optional[str]) -> None:
        with self.changed:
            self.problems.append(problem)
            self.changed.notify_all()

    def wait(self, seconds: float) -> bool:
        return self.stop.wait(seconds)

    @property
    def is_stopping(self) -> bool:
        return self.stop.is_set()
