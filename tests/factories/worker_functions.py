"""A module for `start_worker`: functions that answer, fail, crash and hang."""

from __future__ import annotations

import dataclasses
import os
import signal
import stat
import time
from pathlib import Path
from typing import Dict, Optional, Tuple

import numpy as np

from adq_edge.core.errors import BuildError
from adq_edge.core.options import Precision
from adq_edge.core.worker import serve
from adq_edge.runtimes.tensorrt.job import BuildReport, Job


@dataclasses.dataclass(frozen=True)
class Values:
    number: float
    text: Optional[str]
    pair: Tuple[int, int]
    precision: Precision
    path: Path
    array: np.ndarray
    table: Dict[str, float]


def echo(values: Values, times: int = 1) -> Values:
    """Return the values, with the array multiplied."""
    assert isinstance(values.array, np.ndarray)
    return dataclasses.replace(values, array=values.array * times)


def refuse(where: Path) -> Values:
    raise BuildError("cannot be done", where=where, fix="Do something else")


def fail() -> Values:
    print("printed before")
    raise RuntimeError("the first line\nthe second line")


def end_by(number: int) -> Values:
    os.kill(os.getpid(), number)
    signal.pause()
    raise AssertionError


def exit_with(code: int, message: str) -> Values:
    os.write(2, message.encode())
    os._exit(code)


def send(text: str) -> Values:
    """Write a text to the pipe of the replies."""
    pipe = next(
        fd for fd in range(3, 20) if Path(f"/dev/fd/{fd}").exists() and stat.S_ISFIFO(os.fstat(fd).st_mode)
    )
    os.write(pipe, text.encode("utf-8", "surrogateescape"))
    time.sleep(60)
    raise AssertionError


def sleep(seconds: float) -> Values:
    time.sleep(seconds)
    raise AssertionError


def build_job(job: Job) -> BuildReport:
    """Sleep instead of building."""
    time.sleep(60)
    raise AssertionError


if __name__ == "__main__":
    serve(echo, refuse, fail, end_by, exit_with, send, sleep, build_job)
