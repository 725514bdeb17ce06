"""The station file (TOML): engines, sources, sinks, services and the store; every key is checked."""

from __future__ import annotations

import dataclasses
import re
import sys
from pathlib import Path
from typing import Any, Iterator, Mapping, Optional, Tuple

from adq_edge.core.errors import MissingDependencyError, StationError
from adq_edge.core.reading import read_regular
from adq_edge.core.text import printable, quoted
from adq_edge.station.claims import check_claims
from adq_edge.station.libraries import import_library
from adq_edge.station.options import EngineOptions, SinkOptions, SourceOptions, StationOptions, StoreOptions
from adq_edge.station.registry import SERVICE, SINK, SOURCE, find_class, names_of
from adq_edge.station.services.base import Service
from adq_edge.station.sinks.base import Sink
from adq_edge.station.sources.base import Policy, Source
from adq_edge.station.tables import Place, parse_table, reject_unknown

_LARGEST_FILE = 1 << 20
"""Bytes of a station file."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}", re.ASCII)
_ADD_CAMERA = 'Add [sources.NAME] with type = "camera"'
_TABLES = ("station", "engines", "sources", "sinks", "store")


@dataclasses.dataclass(frozen=True)
class SourceEntry:
    """A source of the station, and the keys that every source has; `engine` is always named."""

    source: Source
    options: SourceOptions

    @property
    def name(self) -> str:
        """The name of the source."""
        return self.source.name

    @property
    def policy(self) -> Policy:
        """What happens to a trigger while the queue is full."""
        return self.options.policy or self.source.policy


@dataclasses.dataclass(frozen=True)
class SinkEntry:
    """A sink of the station, and the keys that every sink has."""

    sink: Sink
    options: SinkOptions

    @property
    def name(self) -> str:
        """The name of the sink."""
        return self.sink.name

    def wants(self, record: Mapping[str, Any]) -> bool:
        """Return True if a record is sent to this sink."""
        sources, verdicts = self.options.sources, self.options.verdicts
        if sources is not None and record["source"] not in sources:
            return False
        named = self.sink.verdicts if verdicts is None else verdicts
        return record["verdict"] in named and self.sink.wants(record)


@dataclasses.dataclass(frozen=True)
class StationConfig:
    """What a station is made of; sources, sinks and services are made, but not started.

    Attributes:
        place: the file, and the folder where relative paths start.
        station: name and times.
        engines: the engines by name.
        sources: the sources by name.
        sinks: the sinks by name.
        services: the services by name.
        store: the store; None for a store that is deleted at the end.
    """

    place: Place
    engines: Mapping[str, EngineOptions]
    sources: Mapping[str, SourceEntry]
    sinks: Mapping[str, SinkEntry] = dataclasses.field(default_factory=dict)
    services: Mapping[str, Service] = dataclasses.field(default_factory=dict)
    station: StationOptions = dataclasses.field(default_factory=StationOptions)
    store: Optional[StoreOptions] = None


def read_config(path: Path) -> StationConfig:
    """Read a station file.

    Raises:
        StorageError: the file cannot be read.
        StationError: it is no TOML, or has an unknown key or an impossible value.
        MissingDependencyError: a kind of source or sink needs a library, or Python below 3.11 has no TOML.
    """
    place = Place(str(path), path.absolute().parent, "")
    return parse_config(_read_toml(path), place)


def parse_config(document: Mapping[str, Any], place: Place) -> StationConfig:
    """Return the configuration in a TOML document; errors as of `read_config`."""
    services = names_of(SERVICE)
    reject_unknown(document, [*_TABLES, *services], place)
    engines = {
        name: parse_table(EngineOptions, values, inside)
        for name, values, inside in _named_tables(document, "engines", place)
    }
    if not engines:
        raise StationError("has no engine", where=str(place), fix='Add [engines.NAME] with file = "ENGINE"')
    sources = {
        name: _parse_source(name, values, inside, engines)
        for name, values, inside in _named_tables(document, "sources", place)
    }
    if not sources:
        raise StationError("has no source", where=str(place), fix='Add [sources.NAME] with type = "camera"')
    _check_cameras(sources, place)
    sinks = {
        name: _parse_sink(name, values, inside, sources)
        for name, values, inside in _named_tables(document, "sinks", place)
    }
    needed = {entry.source.service for entry in sources.values()}
    needed.update(entry.sink.service for entry in sinks.values())
    config = StationConfig(
        place=place,
        station=parse_table(StationOptions, _table(document, "station", place), place.inside("station")),
        engines=engines,
        sources=sources,
        sinks=sinks,
        services={
            name: _parse_service(name, _table(document, name, place), place.inside(name))
            for name in services
            if name in document or name in needed
        },
        store=_parse_store(document, place),
    )
    check_claims(config)
    return config


def _parse_store(document: Mapping[str, Any], place: Place) -> StoreOptions:
    store = parse_table(StoreOptions, _table(document, "store", place), place.inside("store"))
    return dataclasses.replace(store, folder=place.folder / store.folder)


def _parse_source(
    name: str, values: Mapping[str, Any], place: Place, engines: Mapping[str, EngineOptions]
) -> SourceEntry:
    common, source = _parse_entry(SOURCE, name, SourceOptions, values, place)
    if common.engine is None and len(engines) == 1:
        common = dataclasses.replace(common, engine=next(iter(engines)))
    if common.engine not in engines and source.needs_engine:
        what = "names no engine" if common.engine is None else f"no engine named {quoted(common.engine)}"
        raise StationError(what, where=str(place), fix=f"Set engine to one of: {', '.join(engines)}")
    return SourceEntry(source, common)


def _check_cameras(sources: Mapping[str, SourceEntry], place: Place) -> None:
    """Raise a StationError if a source triggers a camera that is not in the station file."""
    cameras = [name for name, entry in sources.items() if entry.source.gives_images]
    for name, entry in sources.items():
        camera = getattr(entry.source.options, "camera", None)
        if camera is not None and camera not in cameras:
            fix = f"Set camera to one of: {', '.join(cameras)}" if cameras else _ADD_CAMERA
            where = str(place.inside(f"sources.{name}"))
            raise StationError(f"no camera named {quoted(camera)}", where=where, fix=fix)


def _parse_sink(
    name: str, values: Mapping[str, Any], place: Place, sources: Mapping[str, SourceEntry]
) -> SinkEntry:
    common, sink = _parse_entry(SINK, name, SinkOptions, values, place)
    for source in common.sources or ():
        if source not in sources:
            fix = f"Sources: {', '.join(sources)}"
            raise StationError(f"no source named {quoted(source)}", where=str(place), fix=fix)
    return SinkEntry(sink, common)


def _parse_entry(
    kind: str, name: str, common: Any, values: Mapping[str, Any], place: Place
) -> Tuple[Any, Any]:
    """Return the options that every source or sink has, and the source or sink."""
    if not isinstance(values.get("type"), str):
        names = ", ".join(names_of(kind))
        raise StationError("lacks the key 'type'", where=str(place), fix=f"Use one of: {names}")
    try:
        found = find_class(kind, values["type"])
    except (StationError, MissingDependencyError) as error:
        raise type(error)(error.what, where=str(place), fix=error.fix) from error
    shared = [field.name for field in dataclasses.fields(common)]
    own = [field.name for field in dataclasses.fields(found.Options)]
    reject_unknown(values, [*shared, *own], place)
    options = parse_table(common, {key: values[key] for key in values if key in shared}, place)
    of_kind = parse_table(found.Options, {key: values[key] for key in values if key not in shared}, place)
    return options, found(name, of_kind)


def _parse_service(name: str, values: Mapping[str, Any], place: Place) -> Service:
    found = find_class(SERVICE, name)
    service: Service = found(parse_table(found.Options, values, place))
    return service


def _read_toml(path: Path) -> Mapping[str, Any]:
    content = read_regular(path, _LARGEST_FILE)
    if sys.version_info >= (3, 11):
        import tomllib  # novm
    else:
        tomllib = import_library("tomli", "a station file")
    try:
        document: Mapping[str, Any] = tomllib.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError:
        fix = "Name a station file (TOML); an engine is named with --engine"
        raise StationError("is no text in UTF-8", where=path, fix=fix) from None
    except (ValueError, RecursionError) as error:
        raise StationError(f"is no TOML: {printable(str(error))}", where=path, fix="Correct it") from None
    return document


def _table(document: Mapping[str, Any], name: str, place: Place, header: str = "") -> Mapping[str, Any]:
    """Return a table of the file, empty if it is missing; `header` is what to write where it is none."""
    table = document.get(name, {})
    if not isinstance(table, dict):
        raise StationError(f"{name} is not a table", where=str(place), fix=f"Write [{header or name}]")
    return table


def _named_tables(
    document: Mapping[str, Any], group: str, place: Place
) -> Iterator[Tuple[str, Mapping[str, Any], Place]]:
    """Yield name, values and place of each table below a group, such as `[sources.top]`."""
    tables = _table(document, group, place, f"{group}.NAME")
    for name in tables:
        inside = place.inside(f"{group}.{name}")
        if not _NAME.fullmatch(name):
            what = f"{quoted(name)} is not a possible name"
            fix = "Use 1 to 40 letters, digits, - and _, the first one a letter or digit"
            raise StationError(what, where=str(place.inside(group)), fix=fix)
        if not isinstance(tables[name], dict):
            fix = f"Write [{group}.NAME], with the keys below it"
            raise StationError(f"{group}.{name} is not a table", where=str(place), fix=fix)
        yield name, tables[name], inside
