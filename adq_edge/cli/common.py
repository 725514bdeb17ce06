"""Error handling that all verbs share."""

from __future__ import annotations

import contextlib
import functools
import signal
import sys
import traceback
from typing import Any, Callable, Iterator, NoReturn

from adq_edge.cli.suggestions import error_text
from adq_edge.core.errors import AdqError, MissingDependencyError
from adq_edge.core.interruption import delayed_signals, restore_signals
from adq_edge.core.streams import output_errors

RESUMED = ("train", "study", "demo")
"""The commands that go on with what an interrupted run has finished."""


def handle_errors(command: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a command: an `AdqError` prints one line and exits with 2, a signal with 128 + its number."""

    @functools.wraps(command)
    def run(*args: Any, **options: Any) -> Any:
        try:
            with output_errors():  # here, because typer exits with 1 if the reader of a pipe has ended
                return command(*args, **options)
        except AdqError as error:
            print(f"adq-edge: {error_text(error)}", file=sys.stderr)
            print_causes(error)
            raise SystemExit(error.exit_code) from error
        except KeyboardInterrupt as interruption:
            then = "goes on where it stopped" if command.__name__ in RESUMED else "starts from the beginning"
            exit_after(interruption, f"; the same command {then}")

    return run


def exit_after(interruption: BaseException, advice: str = "") -> NoReturn:
    """Print one line about the signal that ended a command, and exit with 128 + its number."""
    number = getattr(interruption, "signal", signal.SIGINT)
    restore_signals()  # a second signal ends the process at once
    name = "" if number == signal.SIGINT else f" by {number.name}"
    with contextlib.suppress(OSError):  # the terminal may be gone
        print(f"adq-edge: interrupted{name}{advice}", file=sys.stderr)
    raise SystemExit(128 + number) from None


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
