"""The nearest name to one that does not exist: verbs, options and paths."""

from __future__ import annotations

import difflib
import itertools
import os
from pathlib import Path
from typing import Iterable, List, Optional

from adq_edge.core.errors import AdqError

_MOST_NAMES = 10_000
_MOST_SHOWN = 2
_MISSING = "no such"
_LIKENESS = 0.7
"""Least share of letters in common, 0 to 1."""


def nearest(name: str, names: Iterable[str], most: int = 1) -> List[str]:
    """Return the names that are most like a name, the nearest first; letter case does not count."""
    known = {other.lower(): other for other in names}
    longer = [low for low in sorted(known, key=len) if low.startswith(name.lower())]
    found = [*difflib.get_close_matches(name.lower(), known, most, _LIKENESS), *longer]
    return [known[low] for low in dict.fromkeys(found)][:most]


def error_text(error: AdqError) -> str:
    """Return the message of an error; where a path does not exist, the nearest paths replace the remedy."""
    if error.where is None or not error.what.startswith(_MISSING):
        return str(error)
    names = _near_paths(Path(error.where))
    if not names:
        return str(error)
    return str(AdqError(error.what, where=error.where, fix=f"Did you mean {' or '.join(names)}?")).rstrip(".")


def _near_paths(path: Path) -> List[str]:
    """Return existing paths that differ from a path in its first missing part."""
    try:
        steps = [*reversed(path.parents), path]
        missing = next((step for step in steps if not step.exists()), None)
        if missing is None:
            return []
        rest = path.relative_to(missing)
        found = nearest(missing.name, _names_in(missing.parent, missing.name), _MOST_SHOWN)
        return [str(near) for near in (missing.with_name(name) / rest for name in found) if near.exists()]
    except OSError:  # no access, or a name that is too long
        return []


def _names_in(folder: Path, name: str) -> List[str]:
    """Return the visible names in a folder, without the sidecars of other files."""
    with os.scandir(str(folder)) as entries:
        names = {entry.name for entry in itertools.islice(entries, _MOST_NAMES)}
    return [
        other
        for other in names
        if other != name and not other.startswith(".") and other.rpartition(".json")[0] not in names
    ]


def did_you_mean(name: str, names: Iterable[str]) -> Optional[str]:
    """Return a question with the nearest name; None if none is near."""
    found = nearest(name, names)
    return f"Did you mean {found[0]}?" if found else None
