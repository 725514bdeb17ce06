"""The keys of the tables of a station file that belong to no kind of source, sink or service."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Optional, Tuple, Union

from adq_edge.artifacts.products import SMALLEST_RATE
from adq_edge.core.errors import AdqError
from adq_edge.core.limits import MOST_THREADS
from adq_edge.core.quantities import parse_area, parse_share
from adq_edge.core.runtimes import runtime_names
from adq_edge.core.text import quoted
from adq_edge.station.events import VERDICTS
from adq_edge.station.sources.base import Policy

_MOST_STREAMS, _MOST_QUEUED = 64, 10_000


def _require(is_possible: bool, what: str) -> None:
    if not is_possible:
        raise ValueError(what)


@dataclasses.dataclass(frozen=True)
class StationOptions:
    """`[station]`.

    Attributes:
        name: the station's name in each record.
        drain_s: time at the end to deliver what is stored, in s; the next start delivers the rest.
        log: `text`, or `json` for problems as lines of JSON on standard error.
    """

    name: str = "station"
    drain_s: float = 5.0
    log: str = "text"

    def check(self) -> None:
        """Raise a ValueError if a value is impossible."""
        _require(bool(self.name.strip()), "name is empty")
        _require(self.log in ("text", "json"), f"log is {quoted(self.log)}, not 'text' or 'json'")
        _require(0.0 <= self.drain_s <= 3600.0, f"drain_s is {self.drain_s:g}, not 0 to 3600")


@dataclasses.dataclass(frozen=True)
class EngineOptions:
    """`[engines.NAME]`.

    Attributes:
        file: the engine file, with its products beside it.
        runtime: another runtime than the one that the engine was built for.
        threads: number of CPU threads of one image; by default all, divided by `streams`.
        streams: number of images that the engine scores at the same time.
        false_rejects: share of good parts that may be rejected, such as 0.005 or "0.5%"; that of the products
            by default.
        min_area: smallest area of a region in pixels, or as a percentage of the image such as "1%".
        product: the product on all images; recognized by default.
    """

    file: Path
    runtime: Optional[str] = None
    threads: Optional[int] = None
    streams: int = 1
    false_rejects: Optional[Union[float, str]] = None
    min_area: Union[float, str] = 0.0
    product: Optional[str] = None

    def check(self) -> None:
        """Raise a ValueError if a value is impossible."""
        _require(1 <= self.streams <= _MOST_STREAMS, f"streams is {self.streams}, not 1 to {_MOST_STREAMS}")
        threads, runtime = self.threads, self.runtime
        _require(
            threads is None or 1 <= threads <= MOST_THREADS, f"threads is {threads}, not 1 to {MOST_THREADS}"
        )
        try:
            rate, (pixels, share) = self.rate, self.areas
        except AdqError as error:
            raise ValueError(f"{error.where}: {error.what}") from None
        least = f"{100.0 * SMALLEST_RATE:g} %"
        is_rate = rate is None or SMALLEST_RATE <= rate < 1.0
        _require(is_rate, f"false_rejects is {quoted(self.false_rejects)}, not {least} to below 100 %")
        is_area = 0.0 <= pixels < math.inf and 0.0 <= share < 1.0
        _require(is_area, f"min_area is {quoted(self.min_area)}, not 0 or more pixels, or 0% to below 100%")
        if runtime is not None and runtime not in runtime_names():
            raise ValueError(f"runtime is {quoted(runtime)}, not one of {', '.join(runtime_names())}")

    @property
    def rate(self) -> Optional[float]:
        """`false_rejects` as a share."""
        if isinstance(self.false_rejects, str):
            return parse_share(self.false_rejects, "false_rejects")
        return self.false_rejects

    @property
    def areas(self) -> Tuple[float, float]:
        """`min_area` as pixels and as a share of the image; the one that is not given is 0."""
        if isinstance(self.min_area, str):
            return parse_area(self.min_area, "min_area")
        return self.min_area, 0.0


@dataclasses.dataclass(frozen=True)
class SourceOptions:
    """The keys of `[sources.NAME]` that every source has.

    Attributes:
        type: the kind of source.
        engine: the engine that judges its images; not needed if there is one engine only.
        product: the product on all images of this source; by default that of the engine's table.
        deadline_ms: time from trigger to verdict; by default 1000 ms, or ten times the engine's time if that
            is longer.
        policy: what happens to a trigger while the queue is full; by default that of the kind of source.
        queue: largest number of images that wait for the engine.
    """

    type: str
    engine: Optional[str] = None
    product: Optional[str] = None
    deadline_ms: Optional[float] = None
    policy: Optional[Policy] = None
    queue: int = 4

    def check(self) -> None:
        """Raise a ValueError if a value is impossible."""
        deadline = self.deadline_ms
        if deadline is not None:
            _require(1.0 <= deadline <= 3.6e6, f"deadline_ms is {deadline:g}, not 1 to 3,600,000")
        _require(1 <= self.queue <= _MOST_QUEUED, f"queue is {self.queue}, not 1 to {_MOST_QUEUED:,}")


@dataclasses.dataclass(frozen=True)
class SinkOptions:
    """The keys of `[sinks.NAME]` that every sink has.

    Attributes:
        type: the kind of sink.
        verdicts: the verdicts that are sent; by default those of the kind of sink.
        sources: the sources whose verdicts are sent; all by default.
    """

    type: str
    verdicts: Optional[Tuple[str, ...]] = None
    sources: Optional[Tuple[str, ...]] = None

    def check(self) -> None:
        """Raise a ValueError if a value is impossible."""
        for verdict in self.verdicts or ():
            _require(verdict in VERDICTS, f"verdicts has {quoted(verdict)}, not one of {', '.join(VERDICTS)}")


@dataclasses.dataclass(frozen=True)
class StoreOptions:
    """`[store]`.

    Attributes:
        folder: the folder of the store.
        keep_days: delivered verdicts and their images are deleted after this time.
        max_mb: size of the store in MB (10^6 bytes) above which delivered verdicts and images are deleted
            earlier, images of good parts first. What is not delivered is never deleted.
        images: the verdicts whose images are kept in the store; those that a sink needs are kept in any case.
        sync: `full` if a stored verdict must survive a loss of power; with `normal` it survives a crash.
    """

    folder: Path = Path("station-store")
    keep_days: float = 30.0
    max_mb: float = 10_000.0
    images: Tuple[str, ...] = ()
    sync: str = "normal"

    def check(self) -> None:
        """Raise a ValueError if a value is impossible."""
        for verdict in self.images:
            _require(verdict in VERDICTS, f"images has {quoted(verdict)}, not one of {', '.join(VERDICTS)}")
        _require(self.sync in ("normal", "full"), f"sync is {quoted(self.sync)}, not 'normal' or 'full'")
        for name in ("keep_days", "max_mb"):
            value = getattr(self, name)
            _require(value > 0.0 and math.isfinite(value), f"{name} is {value:g}, not above 0")
