"""Fixtures that are costly to make, made once for all test processes of `make test`."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Callable

import pytest

SHARED_VARIABLE = "ADQ_EDGE_TEST_SHARED"


def shared_folder(name: str, make: Callable[[Path], None], factory: pytest.TempPathFactory) -> Path:
    """Return the folder `name` that one process fills with `make(folder)` while the others wait for it.

    The environment variable `ADQ_EDGE_TEST_SHARED` names the parent folder; without it each process makes its
    own. Tests must not change the content: fixtures give them copies.
    """
    root = Path(os.environ.get(SHARED_VARIABLE) or factory.mktemp("shared"))
    folder, complete = root / name, root / f"{name}.complete"
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not complete.exists():
            folder.mkdir(exist_ok=True)
            make(folder)
            complete.touch()
    return folder
