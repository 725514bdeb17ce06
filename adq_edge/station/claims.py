"""What a part of a station must have for itself, such as a port, a camera or a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Dict, Iterator, Sequence, Tuple

from adq_edge.core.errors import StationError
from adq_edge.core.files import real_path

if TYPE_CHECKING:
    from adq_edge.station.config import StationConfig


def check_claims(config: StationConfig) -> None:
    """Check that no two parts need the same thing, and that no source watches what the station writes.

    Raises:
        StationError: they do; the message names both parts.
    """
    owners: Dict[str, str] = {}
    for part, claims in _claims(config):
        for claim in claims:
            if owners.setdefault(claim, part) != part:
                what = f"needs {claim}, which {owners[claim]} has"
                raise StationError(what, where=_place(config, part), fix="Give each its own")
    _check_watched(config)


def _claims(config: StationConfig) -> Iterator[Tuple[str, Sequence[str]]]:
    if config.store is not None:
        yield "[store]", [f"the folder {real_path(config.store.folder)}"]
    for name, source in config.sources.items():
        yield f"[sources.{name}]", source.source.claims()
    for name, sink in config.sinks.items():
        yield f"[sinks.{name}]", sink.sink.claims()
    for name, service in config.services.items():
        yield f"[{name}]", service.claims()


def _check_watched(config: StationConfig) -> None:
    """Raise a StationError if an image that the station writes would be judged again."""
    written = [(f"[sinks.{name}]", one.sink.image_folder) for name, one in config.sinks.items()]
    if config.store is not None and (config.store.images or any(folder for _, folder in written)):
        written.append(("[store]", config.store.folder))
    for name, entry in config.sources.items():
        watched = entry.source.watched_folder
        for part, folder in written:
            if watched is not None and folder is not None and _is_below(folder, watched):
                what = f"writes images below {watched}, which [sources.{name}] watches"
                raise StationError(what, where=_place(config, part), fix="Name a folder outside of it")


def _is_below(path: Path, folder: Path) -> bool:
    path, folder = real_path(path), real_path(folder)
    return path == folder or folder in path.parents


def _place(config: StationConfig, part: str) -> str:
    return f"{config.place.file}: {part}"
