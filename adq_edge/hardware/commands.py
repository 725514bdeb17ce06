"""Commands of the system that tell about it: run with a limit on their time, and never fatal."""

from __future__ import annotations

import dataclasses
import subprocess
from typing import Callable, Optional, Sequence

_LIMIT_SECONDS = 10.0


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a command ended.

    Attributes:
        output: what it wrote on standard output.
        errors: what it wrote on standard error.
        problem: why it cannot be relied on; None where it ended with exit code 0.
    """

    output: str = ""
    errors: str = ""
    problem: Optional[str] = None

    @property
    def last_words(self) -> str:
        """The last line on standard error, where programs say what went wrong."""
        lines = self.errors.strip().splitlines()
        return lines[-1].strip() if lines else ""


Runner = Callable[[Sequence[str]], Outcome]


def run_command(command: Sequence[str]) -> Outcome:
    """Run a command without input, for 10 seconds at most; it never raises for what the command does."""
    try:
        process = subprocess.Popen(
            list(command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
    except OSError as error:
        return Outcome(problem=f"cannot be run ({(error.strerror or str(error)).lower()})")
    try:
        output, errors = process.communicate(timeout=_LIMIT_SECONDS)
    except subprocess.TimeoutExpired:
        # Not waited for: a program stuck inside a broken driver does not even die of SIGKILL.
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
