"""Functions in a process of their own, so that crashes, memory and CUDA contexts stay there.

The parent process starts a module and calls its functions:

    with start_worker("adq_edge.runtimes.tensorrt.probe", "the GPU query") as worker:
        found = worker.call(query_gpu, timeout=120.0)

The module, run as `python -m MODULE`, ends with `serve(query_gpu)`. Requests and replies are lines of JSON,
decoded by the type annotations of the functions. The process ends with its parent.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import json
import os
import queue
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path
from typing import IO, Any, Callable, Dict, Iterator, Mapping, Optional, Type, TypeVar, get_type_hints

import dacite
import numpy as np

from adq_edge.core import errors
from adq_edge.core.errors import AdqError, first_line
from adq_edge.core.files import storage_errors
from adq_edge.core.reading import with_tuples

Result = TypeVar("Result")

_PACKAGE_ROOT = Path(__file__).resolve().parents[2]
_POLL_SECONDS = 0.1
_EXIT_SECONDS = 10.0
_LONGEST_REPLY = 1 << 28  # characters: more than the durations of a day
_LONGEST_REASON = 300
_INVALID = (ValueError, TypeError, KeyError, AttributeError, RecursionError, dacite.DaciteError)


class WorkerError(AdqError):
    """A worker process that crashed, was killed, took too long, or raised an unexpected exception.

    Attributes:
        log: everything that the process wrote to standard output and standard error.
        signal: the signal that ended the process; None if none did.
    """

    def __init__(self, what: str, log: str, signal: Optional[int] = None) -> None:
        super().__init__(what)
        self.log = log
        self.signal = signal


class Worker:
    """A running worker process, made by `start_worker`; `pid` is its process number."""

    def __init__(self, process: subprocess.Popen[str], log: IO[bytes], title: str) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.pid = process.pid
        self._requests, self._replies = process.stdin, process.stdout
        self._process, self._log, self._title = process, log, title

    def call(
        self,
        function: Callable[..., Result],
        *,
        timeout: Optional[float] = None,
        watch: Optional[Callable[[], None]] = None,
        **arguments: Any,
    ) -> Result:
        """Call a function that the worker serves, and return its result, a dataclass.

        Args:
            function: the function; only its name and annotations are used here.
            timeout: longest duration in seconds.
            watch: called every 0.1 s until the reply arrives; it may raise.
            arguments: numbers, strings, enumerations, paths and dataclasses of them.

        Raises:
            AdqError: raised by the function.
            WorkerError: the process crashed, was killed, took too long, raised another exception, or sent a
                reply that is not valid.
        """
        request = json.dumps({"call": function.__name__, "with": arguments}, default=_encode)
        with contextlib.suppress(OSError):  # the process has ended: `_explain_exit` says why
            self._requests.write(request + "\n")
            self._requests.flush()
        self._wait(timeout, watch)
        try:
            line = self._replies.readline(_LONGEST_REPLY)
            if not line.endswith("\n") and len(line) < _LONGEST_REPLY:
                raise self._explain_exit()
            result: Result = self._read_reply(json.loads(line), get_type_hints(function)["return"])
        except _INVALID as error:
            what = f"{self._title} sent a reply that is not valid ({first_line(error)[:_LONGEST_REASON]})"
            raise WorkerError(what, self.log()) from error
        return result

    def _read_reply(self, reply: Dict[str, Any], kind: Any) -> Any:
        if "raised" in reply:
            raise _unpack_error(**reply["raised"])
        if "failed" in reply:
            raise WorkerError(f"{self._title} failed ({reply['failed']})", self.log())
        return _decode({"returned": kind}, {"returned": reply["returned"]})["returned"]

    def log(self, last_bytes: Optional[int] = None) -> str:
        """Return the text that the process wrote, or the end of it."""
        size = os.fstat(self._log.fileno()).st_size
        length = size if last_bytes is None else min(size, last_bytes)
        # Not `seek` and `read`: the position in the file is shared with the process, which writes there.
        return os.pread(self._log.fileno(), length, size - length).decode("utf-8", "replace")

    def _wait(self, timeout: Optional[float], watch: Optional[Callable[[], None]]) -> None:
        deadline = None if timeout is None else time.monotonic() + timeout
        # Without a reason to wake up, do not disturb what the worker may be timing.
        pause = None if deadline is None and watch is None else _POLL_SECONDS
        while not select.select([self._replies], [], [], pause)[0]:
            if deadline is not None and time.monotonic() > deadline:
                raise WorkerError(f"{self._title} did not answer within {timeout:.0f} s", self.log())
            if watch is not None:
                watch()

    def _explain_exit(self) -> WorkerError:
        try:
            code = self._process.wait(_EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            return WorkerError(f"{self._title} closed its connection", self.log())
        log = self.log()
        if code < 0:
            known = {number.value: number.name for number in signal.Signals}
            return WorkerError(
                f"{self._title} was ended by {known.get(-code, f'signal {-code}')}", log, -code
            )
        lines = log.strip().splitlines()
        return WorkerError(f"{self._title} failed ({lines[-1] if lines else f'exit code {code}'})", log)


@contextlib.contextmanager
def start_worker(module: str, title: str) -> Iterator[Worker]:
    """Start a worker process; it and its child processes are killed when the block ends.

    Args:
        module: the module to run, whose last statement is `serve(...)`.
        title: the subject of error messages, "the builder" for example.

    Raises:
        StorageError: there is no folder for temporary files, or it is full.
        WorkerError: the process cannot be started.
    """
    paths = (str(_PACKAGE_ROOT), os.environ.get("PYTHONPATH", ""))  # the same package as this process
    search = os.pathsep.join(path for path in paths if path)
    with _temporary_file() as log:
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                encoding="utf-8",
                env={**os.environ, "PYTHONPATH": search, "PYTHONUNBUFFERED": "1"},
                start_new_session=True,  # Ctrl-C in the terminal reaches this process only
            )
        except OSError as error:  # no memory for another process, or too many of them
            raise WorkerError(f"{title} cannot be started ({first_line(error)})", "") from error
        try:
            yield Worker(process, log, title)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            with contextlib.suppress(BrokenPipeError), process:
                pass  # closes the pipes and waits for the end of the process


def _temporary_file() -> IO[bytes]:
    with storage_errors(Path(os.environ.get("TMPDIR", "/tmp"))):
        return tempfile.TemporaryFile()


def serve(*functions: Callable[..., Any]) -> None:
    """Answer the parent's calls of some functions, in the worker process, until the parent ends."""
    known = {function.__name__: function for function in functions}
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # a library that prints must not mix with the replies
    requests: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read_requests, args=(requests,), daemon=True).start()
    while True:
        reply = _answer(known, json.loads(requests.get()))
        print(json.dumps(reply, default=_encode), file=replies, flush=True)


def _read_requests(requests: queue.SimpleQueue[str]) -> None:
    """Read in a thread: the end of the pipe, which is the end of the parent, interrupts a running call."""
    for line in sys.stdin:
        requests.put(line)
    os._exit(1)


def _answer(known: Mapping[str, Callable[..., Any]], request: Dict[str, Any]) -> Dict[str, Any]:
    function = known[request["call"]]
    try:
        return {"returned": function(**_decode(get_type_hints(function), request["with"]))}
    except AdqError as error:
        packed = {"kind": type(error).__name__, "what": error.what, "where": error.where, "fix": error.fix}
        return {"raised": packed}
    except Exception as error:
        with contextlib.suppress(OSError):  # the disk with the log may be full
            traceback.print_exc()
        return {"failed": f"{type(error).__name__}: {first_line(error)}"}


def _unpack_error(kind: str, what: str, where: Optional[str], fix: Optional[str]) -> AdqError:
    error = getattr(errors, kind, AdqError)(what, where=where, fix=fix)
    assert isinstance(error, AdqError)
    return error


def _encode(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return str(value) if isinstance(value, Path) else np.ndarray.tolist(value)


def _decode(kinds: Mapping[str, Any], content: Mapping[str, Any]) -> Dict[str, Any]:
    """Return values that were read from JSON as the types that they are annotated with."""
    fields = dataclasses.make_dataclass("Values", [(name, kinds[name]) for name in content])
    hooks: Dict[Type[Any], Callable[[Any], Any]] = {float: float, Path: Path, np.ndarray: _as_array}
    config = dacite.Config(cast=[enum.Enum], type_hooks=hooks)
    return dict(vars(dacite.from_dict(fields, with_tuples(content), config)))


def _as_array(values: Any) -> np.ndarray:
    return np.array(values, np.int64)
