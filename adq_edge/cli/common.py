"""Error handling that all verbs share."""

from __future__ import annotations

import contextlib
import functools
import sys
import traceback
from typing import Any, Callable, Iterator

from adq_edge.cli.suggestions import error_text
from adq_edge.core.errors import AdqError, MissingDependencyError

INTERRUPTED = 130
RESUMED = ("train", "study", "demo")
"""The commands that go on with what an interrupted run has finished."""


def handle_errors(command: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a command: an `AdqError` prints one line and exits with 2, Ctrl-C exits with 130."""

    @functools.wraps(command)
    def run(*args: Any, **options: Any) -> Any:
        try:
            return command(*args, **options)
        except AdqError as error:
            print(f"adq-edge: {error_text(error)}", file=sys.stderr)
            print_causes(error)
            raise SystemExit(error.exit_code) from error
        except KeyboardInterrupt:
            then = "goes on where it stopped" if command.__name__ in RESUMED else "starts from the beginning"
            print(f"adq-edge: interrupted; the same command {then}", file=sys.stderr)
            raise SystemExit(INTERRUPTED) from None

    return run


def print_causes(error: AdqError) -> None:
    """Print the traceback of an error on standard error, with --verbose."""
    from adq_edge.core.console import is_verbose

    if is_verbose():
        traceback.print_exception(type(error), error, error.__traceback__)


@contextlib.contextmanager
def needs_training_half() -> Iterator[None]:
    """Name the package to install if torch is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"this verb needs {error.name}, which is not installed",
            fix="Install it: pip install 'adq-edge[train]'",
        ) from error
