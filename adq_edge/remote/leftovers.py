"""Removes from a board what earlier runs left there; a part of the agent, standard library only."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import List

from adq_edge.remote.supervisor import RUNNING, is_locked, read_state, remove

RECONNECT_SECONDS = 60.0
"""Time for a sender to connect again before its files are removed."""

_UNFOLLOWED_SECONDS = 60.0  # a dead job without a request in this time is removed
_RESULT_DAYS = 7
_DAY = 86400.0


def remove_leftovers(root: Path) -> None:
    """Remove what no running job and no sender uses from the agent's folder.

    These are files of jobs that did not start, dead jobs, the results of jobs that ended 7 days ago, and
    files of earlier releases.
    """
    for folder in ("uploads", "senders"):
        for path in entries(root / folder):
            if not has_sender(root, path.name):
                _remove_if_older(path, RECONNECT_SECONDS)
    for path in entries(root / "jobs"):
        if path.name.startswith("."):  # an agent prepares a job; its process number is the suffix
            lives = Path("/proc", path.suffix[1:]).exists()
            _remove_if_older(path, _DAY if lives else 0.0)
        else:
            state = read_state(path)["state"]
            if state not in RUNNING:
                _remove_if_older(path, _UNFOLLOWED_SECONDS if state == "dead" else _RESULT_DAYS * _DAY)
    for path in entries(root / "files"):  # of releases before 0.2
        _remove_if_older(path, _DAY)


def has_sender(root: Path, job: str) -> bool:
    """Return True if the agent of a sender is connected that sends or follows a job."""
    return any(map(is_locked, entries(root / "senders" / job)))


def entries(folder: Path) -> List[Path]:
    """Return the paths in a folder; none if it is missing."""
    with contextlib.suppress(OSError):
        return sorted(folder.iterdir())
    return []


def _remove_if_older(path: Path, seconds: float) -> None:
    lease = path / "lease"
    with contextlib.suppress(OSError):
        if time.time() - (lease if lease.exists() else path).stat().st_mtime > seconds:
            remove(path)
