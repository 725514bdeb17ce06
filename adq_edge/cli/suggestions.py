"""The nearest paths to one that does not exist."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import List, Optional

from adq_edge.core.errors import AdqError
from adq_edge.core.nearest import nearest

_MOST_NAMES = 10_000
_MOST_NEAR, _MOST_SHOWN = 20, 2
_MISSING = "no such "
_KINDS = {"engine": "ENGINE", "bundle": "BUNDLE"}
"""The members of `FileKind` by the word in a message; a path of another kind is not suggested."""


def error_text(error: AdqError) -> str:
    """Return the message of an error; where a path does not exist, the nearest paths replace the remedy."""
    if error.where is None or not error.what.startswith(_MISSING):
        return str(error)
    kind = _KINDS.get(error.what[len(_MISSING) :])
    names = [str(path) for path in _near_paths(Path(error.where)) if _is_of_kind(path, kind)][:_MOST_SHOWN]
    if not names:
        return str(error)
    return str(AdqError(error.what, where=error.where, fix=f"Did you mean {' or '.join(names)}?")).rstrip(".")


def _is_of_kind(path: Path, kind: Optional[str]) -> bool:
    """Return True if a path is of a kind, a member of `FileKind`; None for any."""
    from adq_edge.artifacts.file_kinds import describe_path

    known = None if kind is None else describe_path(path)
    return kind is None or (known is not None and known.kind.name == kind)


def _near_paths(path: Path) -> List[Path]:
    """Return existing paths that differ from a path in its first missing part."""
    try:
        steps = [*reversed(path.parents), path]
        missing = next((step for step in steps if not step.exists()), None)
        if missing is None:
            return []
        rest = path.relative_to(missing)
        found = nearest(missing.name, _names_in(missing.parent, missing.name), _MOST_NEAR)
        return [near for near in (missing.with_name(name) / rest for name in found) if near.exists()]
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
