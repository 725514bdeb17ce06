"""The pipes of an ssh process, with limits of size and time for everything that comes through them."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import time
from typing import Callable, Dict, Optional, Sequence, Set

from adq_edge.core.text import printable
from adq_edge.remote.errors import ConnectionLostError, HostError, InvalidReplyError
from adq_edge.remote.replies import reply_error

SILENCE_SECONDS = 120.0
"""Longest time in which a board neither sends nor receives a byte."""

_SLOWEST_SECONDS = 600.0  # for a line, and for a payload besides its size at the slowest rate
_SLOWEST_RATE = 10_000.0  # bytes per second
_BLOCK = 1 << 18
_WAKE_SECONDS = 0.2  # time after which a stopped run is noticed
_KEPT_MESSAGES = 1 << 16
_MOST_MESSAGES = 1 << 22
_SHOWN = 80  # bytes of output in an error


class Channel:
    """Sends bytes to a command and receives bytes from it.

    Args:
        host: the board, for errors.
        command: the command; OSError is raised if it cannot be run.
        check_stop: called several times per second while waiting; it may raise.
        new_session: True to run the command without the terminal.
    """

    def __init__(
        self, host: str, command: Sequence[str], check_stop: Callable[[], None], *, new_session: bool
    ) -> None:
        self.silence = SILENCE_SECONDS
        self._host = host
        self._check_stop = check_stop
        self._received = bytearray()
        self._messages = bytearray()
        self._message_bytes = 0
        self._is_lost = False
        self._is_closed = False
        self._process = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=new_session,
        )
        pipes = (self._process.stdin, self._process.stdout, self._process.stderr)
        self._stdin, self._stdout, self._stderr = (pipe.fileno() for pipe in pipes if pipe is not None)
        os.set_blocking(self._stdin, False)
        self._has_messages = True

    def write(self, content: bytes) -> None:
        """Send bytes.

        Raises:
            ConnectionLostError: the connection ended, or took no byte for too long.
        """
        self._require_open()
        view = memoryview(content)
        try:
            while view:
                self._wait(self._stdin, select.POLLOUT, None)
                with contextlib.suppress(BlockingIOError):
                    view = view[os.write(self._stdin, view) :]
        except OSError:
            raise self._lost() from None

    def read_line(self, most: int) -> bytes:
        """Receive a line of at most `most` bytes, its line break included.

        Raises:
            ConnectionLostError: the connection ended, or was silent or slow for too long.
            HostError: the line is longer.
        """
        deadline = time.monotonic() + _SLOWEST_SECONDS
        searched = 0
        while True:
            end = self._received.find(b"\n", searched) + 1
            if end > most or (end == 0 and len(self._received) >= most):
                raise reply_error(self._host, f"it has a line of more than {most} bytes")
            if end > 0:
                line = bytes(self._received[:end])
                del self._received[:end]
                return line
            searched = len(self._received)
            self._fill(deadline)

    def read(self, size: int) -> bytes:
        """Receive `size` bytes.

        Raises:
            ConnectionLostError: the connection ended, or was silent or slow for too long.
        """
        deadline = time.monotonic() + _SLOWEST_SECONDS + size / _SLOWEST_RATE
        while len(self._received) < size:
            self._fill(deadline)
        content = bytes(self._received[:size])
        del self._received[:size]
        return content

    def has_output(self) -> bool:
        """Return True if the command sent bytes that were not read.

        Raises:
            ConnectionLostError: the channel is closed.
        """
        self._require_open()
        return bool(self._received) or self._has_bytes()

    def messages(self) -> str:
        """Return the end of the command's standard error output."""
        while self._has_messages and self._poll({self._stderr: select.POLLIN}, 0.0):
            self._read_messages()
        return self._messages.decode("utf-8", "replace")

    def wait_for_end(self, seconds: float) -> Optional[int]:
        """Wait for the command's end; return its exit code, None if it still runs."""
        deadline = time.monotonic() + seconds
        while self._process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
            self.messages()  # a command may wait until its messages are read
        return self._process.returncode

    def close(self, seconds: float) -> None:
        """End the command: close its input, wait for its end, and kill it after some time.

        Args:
            seconds: the time to wait; not used after the connection was lost.
        """
        self._is_closed = True
        pipes = (self._process.stdin, self._process.stdout, self._process.stderr)
        own_input, *outputs = (pipe for pipe in pipes if pipe is not None)
        own_input.close()
        if not self._is_lost:
            with contextlib.suppress(HostError):
                self.wait_for_end(seconds)
        self._process.kill()
        self._process.wait()
        self._has_messages = False
        for pipe in outputs:
            pipe.close()

    def _require_open(self) -> None:
        if self._is_closed:  # the numbers of its pipes may be those of another board's pipes by now
            raise self._lost()

    def _fill(self, deadline: float) -> None:
        self._wait(self._stdout, select.POLLIN, deadline)
        block = os.read(self._stdout, _BLOCK)
        if not block:
            raise self._lost()
        self._received += block

    def _wait(self, descriptor: int, event: int, deadline: Optional[float]) -> None:
        """Wait until a pipe is ready; read the command's messages meanwhile."""
        start = time.monotonic()
        while True:
            self._check_stop()
            wanted = {descriptor: event}
            if self._has_messages:
                wanted[self._stderr] = select.POLLIN
            ready = self._poll(wanted, _WAKE_SECONDS)
            if self._stderr in ready:
                self._read_messages()
            now = time.monotonic()
            if deadline is not None and now > deadline:
                raise self._lost("it is too slow")
            if descriptor in ready:
                return
            if now > start + self.silence:
                raise self._lost(f"no byte in {self.silence:.0f} s{self._last_output()}")

    def _has_bytes(self) -> bool:
        """Return True if bytes are in the pipe; at its end, none are."""
        if not self._poll({self._stdout: select.POLLIN}, 0.0):
            return False
        self._received += os.read(self._stdout, _BLOCK)
        return bool(self._received)

    def _last_output(self) -> str:
        """Return the line without an end that was received last, such as a question for a password."""
        text = printable(self._received[-_SHOWN:].decode("utf-8", "replace"), _SHOWN)
        return f" after {text!r}" if text else ""

    @staticmethod
    def _poll(wanted: Dict[int, int], seconds: float) -> Set[int]:
        poller = select.poll()
        for descriptor, event in wanted.items():
            poller.register(descriptor, event)
        return {descriptor for descriptor, _ in poller.poll(seconds * 1000)}

    def _read_messages(self) -> None:
        block = os.read(self._stderr, _BLOCK)
        self._has_messages = bool(block)
        self._message_bytes += len(block)
        self._messages += block
        del self._messages[:-_KEPT_MESSAGES]
        if self._message_bytes > _MOST_MESSAGES:
            what = f"sent more than {_MOST_MESSAGES >> 20} MiB of error messages"
            raise InvalidReplyError(what, where=self._host, fix="Check what its .bashrc and ssh print")

    def _lost(self, reason: str = "") -> ConnectionLostError:
        self._is_lost = True
        lines = self.messages().strip().splitlines()
        reason = reason or (printable(lines[-1], 200) if lines else "")
        what = f"the connection was lost{f' ({reason})' if reason else ''}"
        return ConnectionLostError(what, where=self._host)
