"""Run system commands with a time limit; a failed command raises no exception."""

from __future__ import annotations

import dataclasses
import errno
import re
import signal
import subprocess
from typing import Callable, Optional, Sequence

# A board needs 20 s or more to import TensorRT from an SD card for the first time.
_LIMIT_SECONDS = 60.0

_SHORTAGES = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE)
_SHORTAGE = re.compile(
    r"MemoryError|Cannot allocate memory|can't start new thread|Resource temporarily unavailable|bad_alloc"
)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Result of a command.

    Attributes:
        output: text on standard output.
        errors: text on standard error.
        problem: why the command failed; None after exit code 0.
        is_shortage: True if the machine may have lacked time, memory or processes for the command. Then the
            failure does not show a fault of the program.
    """

    output: str = ""
    errors: str = ""
    problem: Optional[str] = None
    is_shortage: bool = False

    @property
    def last_error_line(self) -> str:
        """The last line on standard error, where most programs print the reason."""
        lines = self.errors.strip().splitlines()
        return lines[-1].strip() if lines else ""


Runner = Callable[[Sequence[str]], Outcome]
"""Signature of `run_command`; tests pass a fake."""


def run_command(command: Sequence[str]) -> Outcome:
    """Run a command without input for at most 60 s; never raises because of the command."""
    try:
        process = subprocess.Popen(
            list(command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        return Outcome(problem=f"cannot be run ({reason})", is_shortage=error.errno in _SHORTAGES)
    try:
        output, errors = process.communicate(timeout=_LIMIT_SECONDS)
    except subprocess.TimeoutExpired:
        # Do not wait: a process that hangs in a broken driver survives SIGKILL.
        process.kill()
        return Outcome(problem=f"gave no answer within {_LIMIT_SECONDS:.0f} s", is_shortage=True)
    except BaseException:
        process.kill()
        raise
    problem, text = _problem(process.returncode), _decode(errors)
    # The kernel kills with SIGKILL when memory runs out.
    killed = process.returncode == -getattr(signal, "SIGKILL", signal.SIGTERM)
    shortage = killed or (problem is not None and _SHORTAGE.search(text) is not None)
    return Outcome(_decode(output), text, problem, shortage)


def _problem(code: int) -> Optional[str]:
    if code == 0:
        return None
    return f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"


def _decode(text: bytes) -> str:
    return text.decode("utf-8", errors="replace")
