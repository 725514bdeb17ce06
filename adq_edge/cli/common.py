"""Error handling that all verbs share."""

from __future__ import annotations

import contextlib
import functools
import sys
import traceback
from typing import Any, Callable, Iterator

from adq_edge.cli.suggestions import error_text
from adq_edge.core.errors import AdqError, MissingDependencyError
from adq_edge.core.interruption import delayed_signals, exit_after, was_interrupted
from adq_edge.core.streams import output_errors

RESUMED = ("train", "study", "demo")
"""The commands that go on with what an interrupted run has finished."""


def handle_errors(command: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a command: an `AdqError` prints one line and exits with 2, a signal with 128 + its number."""

    @functools.wraps(command)
    def run(*args: Any, **options: Any) -> Any:
        then = "goes on where it stopped" if command.__name__ in RESUMED else "starts from the beginning"
        advice = f"; the same command {then}"
        try:
            with output_errors():  # here, because typer exits with 1 if the reader of a pipe has ended
                return command(*args, **options)
        except KeyboardInterrupt as interruption:
            exit_after(interruption, advice)
        except Exception as error:
            cause = was_interrupted()  # some libraries raise another error in its place
            if cause is not None:
                exit_after(cause, advice)
            if not isinstance(error, AdqError):
                raise
            print(f"adq-edge: {error_text(error)}", file=sys.stderr)
            print_causes(error)
            raise SystemExit(error.exit_code) from error

    return run


def print_causes(error: AdqError) -> None:
    """Print the traceback of an error on standard error, with --verbose."""
    from adq_edge.core.console import is_verbose

    if is_verbose():
        traceback.print_exception(type(error), error, error.__traceback__)


@contextlib.contextmanager
def needs_training_half() -> Iterator[None]:
    """Name the package to install if torch is missing; torch aborts if a signal interrupts its import."""
    try:
        with delayed_signals():
            yield
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"this verb needs {error.name}, which is not installed",
            fix="Install it: pip install 'adq-edge[train]'",
        ) from error
