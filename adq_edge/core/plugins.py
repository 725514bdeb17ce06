"""What installed packages add: classes found by name, ours first, then those of an entry-point group."""

from __future__ import annotations

from importlib import import_module, metadata
from typing import Any, Callable, Dict, List, Mapping

from adq_edge.core.errors import CalibrationError

Factory = Callable[..., Any]


def plugin_names(group: str, built_in: Mapping[str, str]) -> List[str]:
    """Return all names, ours and those of installed packages, sorted.

    Args:
        group: the entry-point group in which packages announce theirs.
        built_in: `module:attribute` of ours, by name.
    """
    return sorted({*built_in, *_installed(group)})


def load_factory(kind: str, name: str, group: str, built_in: Mapping[str, str]) -> Factory:
    """Import what stands behind a name; ours go before an installed package's of the same name.

    Args:
        kind: what it is called in messages.
        name: its name.
        group: the entry-point group in which packages announce theirs.
        built_in: `module:attribute` of ours, by name.

    Raises:
        CalibrationError: no such name, or its package cannot be imported.
    """
    loaders = {**_installed(group), **{ours: _loader(path) for ours, path in built_in.items()}}
    if name not in loaders:
        raise CalibrationError(
            f"no {kind} named {name!r}", fix=f"There are: {', '.join(plugin_names(group, built_in))}"
        )
    try:
        return loaders[name]()
    except Exception as error:  # importing another's package can fail in any way
        raise CalibrationError(
            f"{kind} {name!r} cannot be loaded ({error})", fix="Repair its package"
        ) from error


def _loader(path: str) -> Callable[[], Factory]:
    module, _, attribute = path.partition(":")

    def load() -> Factory:
        factory: Factory = getattr(import_module(module), attribute)
        return factory

    return load


def _installed(group: str) -> Dict[str, Callable[[], Factory]]:
    points: Any = metadata.entry_points()  # a plain dictionary before Python 3.10
    chosen = points.select(group=group) if hasattr(points, "select") else points.get(group, [])
    return {point.name: point.load for point in chosen}
