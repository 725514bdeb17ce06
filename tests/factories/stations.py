"""Stations with the tiny engine, without a station file."""

from __future__ import annotations

import importlib.util
import threading
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence

import numpy as np

from adq_edge.station.config import SinkEntry, StationConfig, parse_config
from adq_edge.station.events import Message
from adq_edge.station.options import SinkOptions
from adq_edge.station.sinks.base import Sink
from adq_edge.station.tables import Place
from factories.parts import draw_part

HAS_TOML = any(map(importlib.util.find_spec, ("tomllib", "tomli")))
"""Whether this Python reads station files."""
WAIT_S = 20.0
"""Limit for what takes milliseconds on an idle machine."""


def station_config(engine: Path, folder: Path, **tables: Any) -> StationConfig:
    """Return a station with one engine, and one source for calls unless `tables` has others."""
    document: Dict[str, Any] = {
        "engines": {"parts": {"file": str(engine), "threads": 1}},
        "sources": {"line": {"type": "calls", "queue": 100, "deadline_ms": 60_000.0}},
        "store": {"folder": "store"},
        **tables,
    }
    return parse_config(document, Place("station.toml", folder, ""))


def part_image(number: int = 0, is_defective: bool = False) -> np.ndarray:
    return draw_part("bolt", number, is_defective=is_defective, size=64)


class ListSink(Sink):
    """A sink whose peer is a list, and may be down.

    Attributes:
        records: what it has acknowledged.
        is_down: True to let each call fail.
        refused: sequences that it refuses for good.
    """

    def __init__(self, name: str = "list", options: Optional[object] = None) -> None:
        super().__init__(name, options)
        self.records: List[Mapping[str, Any]] = []
        self.is_down = False
        self.attempts = threading.Semaphore(0)

    def send(self, messages: Sequence[Message]) -> int:
        self.attempts.release()
        if self.is_down:
            raise ConnectionError("the peer is down")
        self.records += [message.record for message in messages]
        return len(messages)


def with_sinks(config: StationConfig, *sinks: ListSink) -> StationConfig:
    """Return a station with further sinks."""
    entries = {sink.name: SinkEntry(sink, SinkOptions("list")) for sink in sinks}
    return StationConfig(**{**vars(config), "sinks": {**config.sinks, **entries}})
