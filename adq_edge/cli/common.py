"""Error handling that all verbs share."""

from __future__ import annotations

import contextlib
import functools
import sys
import traceback
from pathlib import Path
from typing import Any, Callable, Iterator

import typer

from adq_edge.cli.suggestions import error_text
from adq_edge.core.errors import AdqError, MissingDependencyError, first_line
from adq_edge.core.interruption import delayed_signals, exit_after, was_interrupted
from adq_edge.core.streams import output_errors
from adq_edge.core.text import printable_message

RESUMED = ("train", "study", "demo", "run", "stress")
"""The commands that go on with what an interrupted run has finished."""
ONE_BY_ONE = ("predict",)
"""The commands that write a file for each image."""
INTERNAL_ERROR = 1
UsageError: Any = typer.BadParameter.__mro__[2]
"""ClickException, the base of all errors of usage. typer does not export it, and recent releases contain a
copy of click, in which `click.ClickException` is another class."""
_EXITS = (typer.Exit, typer.Abort, UsageError)
"""The exceptions that end a command on purpose."""


def handle_errors(command: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a command: any error prints one line, a signal too.

    The exit code is 2 for an `AdqError`, 1 for an error of adq-edge itself, 128 + its number for a signal.
    """

    @functools.wraps(command)
    def run(*args: Any, **options: Any) -> Any:
        try:
            with output_errors():  # here, because typer exits with 1 if the reader of a pipe has ended
                return command(*args, **options)
        except KeyboardInterrupt as interruption:
            exit_after(interruption, _advice(command.__name__))
        except Exception as error:
            cause = was_interrupted()  # some libraries raise another error in its place
            if cause is not None:
                exit_after(cause, _advice(command.__name__))
            if isinstance(error, _EXITS):
                raise
            text, code = _bug_text(error), INTERNAL_ERROR
            if isinstance(error, AdqError):
                text, code = error_text(error), error.exit_code
            print(f"adq-edge: {text}", file=sys.stderr)
            print_traceback(error)
            raise SystemExit(code) from error

    return run


def _bug_text(error: Exception) -> str:
    """Return an error that no user can fix, with its place in the code, on one line."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "adq_edge" in Path(frame.filename).parts] or frames
    place = f"{Path(own[-1].filename).name}:{own[-1].lineno}" if own else "unknown place"
    what = printable_message(f"{type(error).__name__}: {first_line(error)}")
    return f"internal error at {place}: {what}. Please report it, with what the same command prints with -v."


def _advice(command: str) -> str:
    """Return what an interrupted command has stored, and what the same command does next."""
    if command in RESUMED:
        return "; the same command goes on where it stopped"
    from adq_edge.core.transactions.transaction import has_stored

    kept = "the files written so far stay" if command in ONE_BY_ONE or has_stored() else "nothing was stored"
    return f"; {kept}, the same command starts from the beginning"


def print_traceback(error: Exception) -> None:
    """Print the traceback of an error on standard error, with --verbose."""
    from adq_edge.core.console import is_verbose

    if is_verbose():
        traceback.print_exception(type(error), error, error.__traceback__)


@contextlib.contextmanager
def needs_training_half() -> Iterator[None]:
    """Show a bar while torch loads, and name the package to install if it is missing.

    torch aborts the process if a signal interrupts its import.
    """
    from adq_edge.core.console import pulsing_bar

    try:
        with pulsing_bar("Loading torch"), delayed_signals():
            yield
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"this verb needs {error.name}, which is not installed",
            fix="Install it: pip install torch",
        ) from error
