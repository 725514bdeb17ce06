"""Plugins: built-in classes and functions, and those of installed packages, by name."""

from __future__ import annotations

import contextlib
from importlib import import_module, metadata
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Type

from adq_edge.core.errors import AdqError, CalibrationError

Factory = Callable[..., Any]


def plugin_names(group: str, built_in: Mapping[str, str]) -> List[str]:
    """Return all names, sorted.

    Args:
        group: entry-point group of installed packages.
        built_in: `module:attribute` of the built-in plugins, by name.
    """
    return sorted({*built_in, *_installed(group)})


def load_factory(
    kind: str, name: str, group: str, built_in: Mapping[str, str], error: Type[AdqError] = CalibrationError
) -> Factory:
    """Import the class or function of a name; a built-in one has priority over an installed one.

    Args:
        kind: the word for the plugin in messages.
        name: its name.
        group: entry-point group of installed packages.
        built_in: `module:attribute` of the built-in plugins, by name.
        error: the class of the errors.

    Raises:
        AdqError: no such name, or its package cannot be imported; of the class `error`.
    """
    installed = _installed(group)
    if name not in built_in and name not in installed:
        names = ", ".join(plugin_names(group, built_in))
        raise error(f"no {kind} named {name!r}", fix=f"Use one of: {names}")
    with plugin_errors(f"{kind} {name!r} cannot be loaded", fix="Repair its package", error=error):
        return import_attribute(built_in[name]) if name in built_in else installed[name]()


@contextlib.contextmanager
def plugin_errors(
    what: str, fix: Optional[str] = None, error: Type[AdqError] = CalibrationError
) -> Iterator[None]:
    """Turn any error of a plugin into an AdqError.

    Args:
        what: what failed.
        fix: what the user can do.
        error: the class of the error.
    """
    try:
        yield
    except AdqError:
        raise
    except Exception as cause:
        reason = str(cause) if isinstance(cause, ValueError) else f"{type(cause).__name__}: {cause}"
        raise error(f"{what} ({reason})", fix=fix) from cause


def import_attribute(path: str) -> Any:
    """Import a `module:attribute`."""
    module, _, attribute = path.partition(":")
    return getattr(import_module(module), attribute)


def _installed(group: str) -> Dict[str, Callable[[], Factory]]:
    points: Any = metadata.entry_points()  # a dictionary before Python 3.10
    chosen = points.select(group=group) if hasattr(points, "select") else points.get(group, [])
    return {point.name: point.load for point in chosen}
