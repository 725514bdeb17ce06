"""Run system commands with a time limit; a failed command raises no exception."""

from __future__ import annotations

import dataclasses
import subprocess
from typing import Callable, Optional, Sequence

_LIMIT_SECONDS = 10.0


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Result of a command.

    Attributes:
        output: text on standard output.
        errors: text on standard error.
        problem: why the command failed; None after exit code 0.
    """

    output: str = ""
    errors: str = ""
    problem: Optional[str] = None

    @property
    def last_error_line(self) -> str:
        """The last line on standard error, where most programs print the reason."""
        lines = self.errors.strip().splitlines()
        return lines[-1].strip() if lines else ""


Runner = Callable[[Sequence[str]], Outcome]
"""Signature of `run_command`; tests pass a fake."""


def run_command(command: Sequence[str]) -> Outcome:
    """Run a command without input for at most 10 s; never raises because of the command."""
    try:
        process = subprocess.Popen(
            list(command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
    except OSError as error:
        return Outcome(problem=f"cannot be run ({(error.strerror or str(error)).lower()})")
    try:
        output, errors = process.communicate(timeout=_LIMIT_SECONDS)
    except subprocess.TimeoutExpired:
        # Do not wait: a process that hangs in a broken driver survives SIGKILL.
        process.kill()
        return Outcome(problem=f"gave no answer within {_LIMIT_SECONDS:.0f} s")
    except BaseException:
        process.kill()
        raise
    return Outcome(_decode(output), _decode(errors), _problem(process.returncode))


def _problem(code: int) -> Optional[str]:
    if code == 0:
        return None
    return f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"


def _decode(text: bytes) -> str:
    return text.decode("utf-8", errors="replace")
