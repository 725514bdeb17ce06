"""Limits of the memory, so that a file that takes too much fails and does not end the machine."""

from __future__ import annotations

import contextlib
import resource
from pathlib import Path
from typing import Iterator


@contextlib.contextmanager
def little_memory() -> Iterator[None]:
    """Limit the memory to 4 GB more than now."""
    with Path("/proc/self/statm").open() as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (now + 4 * 2**30, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
