"""A disk that fails at the n-th of all calls that change it."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
from pathlib import Path
from typing import Any, Callable, Iterator, Optional

import pytest

CALLS = (
    (os, "fsync"),
    (os, "link"),
    (Path, "write_bytes"),
    (Path, "write_text"),
    (Path, "mkdir"),
    (Path, "touch"),
    (Path, "chmod"),
    (Path, "rename"),
    (Path, "replace"),
    (Path, "unlink"),
)


@contextlib.contextmanager
def failing_disk(
    first: int, count: int, number: int = errno.ENOSPC, instead: Optional[Callable[[], None]] = None
) -> Iterator[Iterator[int]]:
    """Let `count` calls fail, from call `first` (1 or more) on; yield the counter of the calls.

    Args:
        first: the first failing call.
        count: number of failing calls.
        number: the error number.
        instead: called before each of these calls, which then succeeds.
    """
    calls = itertools.count(1)

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if first <= next(calls) < first + count:
                if instead is None:
                    raise OSError(number, os.strerror(number))
                instead()
            return function(*arguments, **options)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for owner, name in CALLS:
            patch.setattr(owner, name, wrap(getattr(owner, name)))
        yield calls
