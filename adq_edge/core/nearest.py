"""The nearest name to one that does not exist: of verbs, options, paths and keys."""

from __future__ import annotations

import difflib
from typing import Iterable, List, Optional

_LIKENESS = 0.7
"""Least share of letters in common, 0 to 1."""


def nearest(name: str, names: Iterable[str], most: int = 1) -> List[str]:
    """Return the names that are most like a name, the nearest first; letter case does not count."""
    known = {other.lower(): other for other in names}
    longer = [low for low in sorted(known, key=len) if low.startswith(name.lower())]
    found = [*difflib.get_close_matches(name.lower(), known, most, _LIKENESS), *longer]
    return [known[low] for low in dict.fromkeys(found)][:most]


def did_you_mean(name: str, names: Iterable[str]) -> Optional[str]:
    """Return a question with the nearest name; None if none is near."""
    found = nearest(name, names)
    return f"Did you mean {found[0]}?" if found else None
