"""Stations without a station file: an engine and a source from the command line, or recorded images."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Dict, Mapping

from adq_edge.core.errors import StationError
from adq_edge.core.images.folders import is_folder
from adq_edge.station.config import SourceEntry, StationConfig, parse_config
from adq_edge.station.sources.replay import ReplayOptions, ReplaySource
from adq_edge.station.tables import Place

NAME = "first"
"""Name of the source and of the engine."""


def quick_config(engine: Path, source: str) -> StationConfig:
    """Return a station with one engine and one source, and a store that is deleted at the end.

    Args:
        engine: the engine file.
        source: the number of a camera, an address, a GStreamer pipeline, a video file, a folder that is
            watched, or `-` for triggers from standard input.

    Raises:
        StationError: the source is none of these.
    """
    document = {"engines": {NAME: {"file": str(engine)}}, "sources": {NAME: _source_table(source)}}
    config = parse_config(document, Place("--source", Path(), ""))
    return dataclasses.replace(config, store=None)


def _source_table(source: str) -> Dict[str, Any]:
    if source == "-":
        return {"type": "stdin"}
    if is_folder(Path(source)):
        return {"type": "folder", "folder": source}
    return {"type": "camera", "device": source}


def replay_config(config: StationConfig, folder: Path, speed: float) -> StationConfig:
    """Return a station whose sources play recorded images; its store is deleted at the end.

    Args:
        config: the station.
        folder: the images. Where it has folders with names of sources, each source plays its own, and the
            others play nothing; else the first source plays the whole folder.
        speed: 1 for the pace of the recording, 2 for twice as fast; 0 for no pauses.

    Raises:
        StationError: an impossible speed.
    """
    try:
        ReplayOptions(folder, speed).check()
    except ValueError as error:
        raise StationError(str(error), where="--speed", fix="Use 1 for the pace of the recording") from None
    judging = {name: entry for name, entry in config.sources.items() if entry.options.engine is not None}
    own = {name: folder / name for name in judging if is_folder(folder / name)}
    folders: Mapping[str, Path] = own or {next(iter(judging)): folder}
    sources = {
        name: SourceEntry(ReplaySource(name, ReplayOptions(place, speed)), judging[name].options)
        for name, place in folders.items()
    }
    return dataclasses.replace(config, sources=sources, store=None)
