"""`run --check`: everything that a station needs, tried without starting it."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Callable, List, Optional, Union

from adq_edge.core.errors import AdqError, first_line
from adq_edge.core.text import printable_message
from adq_edge.station.config import StationConfig
from adq_edge.station.engines import open_inspector
from adq_edge.station.sinks.base import Sink
from adq_edge.station.sources.base import Source
from adq_edge.station.store import check_store


@dataclasses.dataclass(frozen=True)
class Finding:
    """What was found about a part of a station.

    Attributes:
        part: the part, such as `engine bolts` or `sink mqtt`.
        detail: what it is, such as its file or address.
        problem: why it cannot be used, in one line; None if it can.
    """

    part: str
    detail: str
    problem: Optional[str] = None


def check_station(config: StationConfig) -> List[Finding]:
    """Return a finding for each part of a station; cameras and peers are tried, nothing is judged or sent."""
    findings = [
        _find(f"engine {name}", str(options.file), partial(_check_engine, config, name))
        for name, options in config.engines.items()
    ]
    for name, entry in config.sources.items():
        findings.append(_find_part(f"source {name}", entry.source))
    for name, sink in config.sinks.items():
        findings.append(_find_part(f"sink {name}", sink.sink))
    for name, service in config.services.items():
        findings.append(_find(f"service {name}", service.describe() or "", service.check))
    if config.store is not None:
        check = partial(check_store, config.store.folder)
        findings.append(_find("store", str(config.store.folder), check))
    return findings


def _find_part(name: str, part: Union[Source, Sink]) -> Finding:
    found = _find(name, part.describe() or "", part.check)
    return _find(name, found.detail, part.probe) if found.problem is None else found


def _find(part: str, detail: str, check: Callable[[], None]) -> Finding:
    try:
        check()
    except AdqError as error:
        return Finding(part, detail, str(error))
    except Exception as error:  # sources and sinks may come from any package
        return Finding(part, detail, printable_message(f"{type(error).__name__}: {first_line(error)}"))
    return Finding(part, detail)


def _check_engine(config: StationConfig, name: str) -> None:
    """Load an engine and its products, and look for the products that sources name."""
    with open_inspector(config.engines[name]) as inspector:
        for entry in config.sources.values():
            if entry.options.engine == name and entry.options.product is not None:
                inspector.index_of(entry.options.product)
