"""What a service sees of its station."""

from __future__ import annotations

import dataclasses
from typing import Mapping, Protocol, Tuple

from adq_edge.station.conditions import Condition, Conditions
from adq_edge.station.config import StationConfig
from adq_edge.station.engines import StationEngine
from adq_edge.station.intake import Intake


@dataclasses.dataclass(frozen=True)
class Latency:
    """The times from trigger to verdict of the last 10,000 verdicts at the most, in ms; 0 without any."""

    p50: float = 0.0
    p99: float = 0.0
    p999: float = 0.0
    highest: float = 0.0


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """The figures of a station since its start.

    Attributes:
        started: when it started, in seconds since 1970 (UTC).
        accepted: number of triggers with a ticket.
        verdicts: number of verdicts by source, then by verdict.
        products: number of verdicts by product, then by verdict; without images of unknown products.
        missed: verdicts `cannot judge` because no result came by the deadline.
        replaced: verdicts `cannot judge` because of a full queue.
        failed: verdicts `cannot judge` because of an error of the engine or of adq-edge.
        latency: latencies of all sources.
        queued: number of images that wait for an engine, by source.
        waiting: number of stored messages that wait for a sink, by sink.
        refused: number of messages that a sink's peer has refused for good, by sink.
        unstored: number of verdicts that are in memory only, because the disk is full.
        lost: number of verdicts that could neither be stored nor delivered: the disk was full or too slow.
        conditions: the current problems; the station is degraded if there is one.
    """

    started: float
    accepted: int
    verdicts: Mapping[str, Mapping[str, int]]
    products: Mapping[str, Mapping[str, int]]
    missed: int
    replaced: int
    failed: int
    latency: Latency
    queued: Mapping[str, int]
    waiting: Mapping[str, int]
    refused: Mapping[str, int]
    unstored: int
    lost: int
    conditions: Tuple[Condition, ...]

    def count(self, verdict: str) -> int:
        """Return the number of verdicts of a kind, of all sources."""
        return sum(of_source.get(verdict, 0) for of_source in self.verdicts.values())

    @property
    def decided(self) -> int:
        """The number of all verdicts."""
        return sum(sum(of_source.values()) for of_source in self.verdicts.values())


class StationView(Protocol):
    """What a service may use of its station; any thread may call it."""

    @property
    def config(self) -> StationConfig:
        """The station file."""

    @property
    def conditions(self) -> Conditions:
        """The current problems; a service reports its findings here, and may listen."""

    @property
    def engines(self) -> Mapping[str, StationEngine]:
        """The loaded engines by name."""

    def intake(self, source: str) -> Intake:
        """Return the way in for the triggers of a source.

        Raises:
            StationError: there is no such source.
        """

    def snapshot(self) -> Snapshot:
        """Return the figures of the station."""

    def request_stop(self) -> None:
        """End the station: what was accepted is judged, stored and delivered first."""
