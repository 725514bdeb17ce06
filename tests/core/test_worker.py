from __future__ import annotations

import dataclasses
import errno
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Iterator

import numpy as np
import pytest

from adq_edge.core.errors import BuildError, StorageError
from adq_edge.core.options import Precision
from adq_edge.core.worker import Worker, WorkerError, start_worker
from factories import worker_functions
from factories.sshd import wait_for
from factories.worker_functions import Values

VALUES = Values(1, None, (2, 3), Precision.INT8, Path("a/b"), np.array([4, 5]), {"x": 0.5})


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    with start_worker(worker_functions.__name__, "the worker") as started:
        yield started


def is_alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists() and "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()


def test_values_keep_their_types(worker: Worker):
    for times in (1, 3):
        returned = worker.call(worker_functions.echo, values=VALUES, times=times)
        assert dataclasses.replace(returned, array=VALUES.array) == VALUES
        assert type(returned.number) is float
        assert returned.array.dtype == np.int64
        np.testing.assert_array_equal(returned.array, VALUES.array * times)


def test_adq_error_is_carried_back_whole(worker: Worker):
    with pytest.raises(BuildError) as caught:
        worker.call(worker_functions.refuse, where=Path("x.onnx"))
    assert str(caught.value) == "x.onnx: cannot be done. Do something else."
    worker.call(worker_functions.echo, values=VALUES)  # still answers


def test_other_exception_becomes_one_line_and_its_traceback_is_logged(worker: Worker):
    with pytest.raises(WorkerError) as caught:
        worker.call(worker_functions.fail)
    assert str(caught.value) == "the worker failed (RuntimeError: the first line)."
    assert caught.value.signal is None
    assert caught.value.log.startswith("printed before\nTraceback ")
    assert worker.log(last_bytes=5) == "line\n"


def test_signal_is_named(worker: Worker):
    with pytest.raises(WorkerError, match=r"^the worker was ended by SIGSEGV\.$") as caught:
        worker.call(worker_functions.end_by, number=signal.SIGSEGV)
    assert caught.value.signal == signal.SIGSEGV
    with pytest.raises(WorkerError, match="SIGSEGV"):
        worker.call(worker_functions.echo, values=VALUES)


@pytest.mark.parametrize(
    "reply",
    [
        *(
            "null",
            "3",
            "{}",
            "{",
            "[" * 5000 + "]" * 5000,
            '{"returned": null}',
            '{"returned": {"number": 1}}',
        ),
        *(
            '{"raised": 1}',
            '{"raised": {"kind": "annotations", "what": ""}}',
            '{"raised": {"kind": "AdqError"}}',
        ),
        *("\udcff\udcfe", '{"returned": {"number": "x", "text": 1, "size": [], "precision": "int9"}}'),
    ],
)
def test_reply_that_is_not_valid_is_one_line(worker: Worker, reply: str):
    with pytest.raises(WorkerError, match=r"^the worker sent a reply that is not valid \(.*\)\.$"):
        worker.call(worker_functions.send, text=reply + "\n")


@pytest.mark.parametrize(("message", "reason"), [("first\nlast\n", "last"), ("", "exit code 3")])
def test_exit_is_explained(worker: Worker, message: str, reason: str):
    with pytest.raises(WorkerError, match=rf"^the worker failed \({reason}\)\.$"):
        worker.call(worker_functions.exit_with, code=3, message=message)


def test_timeout_ends_the_process(worker: Worker):
    with pytest.raises(WorkerError, match=r"^the worker did not answer within 1 s\.$"):
        worker.call(worker_functions.sleep, seconds=60, timeout=1.0)


def test_process_is_killed_when_the_block_ends(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), start_worker(worker_functions.__name__, "the worker") as started:
        started.call(worker_functions.sleep, seconds=60, watch=interrupt)
    assert not is_alive(started.pid)


def test_missing_folder_for_temporary_files_is_reported(monkeypatch: pytest.MonkeyPatch):
    def fail() -> None:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(tempfile, "TemporaryFile", fail)
    with pytest.raises(StorageError, match="no usable temporary directory"):
        start_worker(worker_functions.__name__, "the worker").__enter__()


def test_process_that_cannot_be_started_is_reported(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(WorkerError, match="the worker cannot be started"):
        start_worker(worker_functions.__name__, "the worker").__enter__()


def test_process_ends_with_its_parent_during_a_call():
    script = (
        "from adq_edge.core.worker import start_worker; from factories import worker_functions as functions\n"
        "with start_worker(functions.__name__, 'the worker') as worker:\n"
        "    worker.call(functions.sleep, seconds=60, watch=lambda: print(worker.pid, flush=True))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    parent = subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    time.sleep(0.5)  # until the call is being answered
    assert is_alive(pid)
    parent.kill()
    parent.communicate()
    wait_for(lambda: not is_alive(pid), "end of the worker", seconds=10)
