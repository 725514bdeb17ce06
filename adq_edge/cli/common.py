"""What all verbs share: how errors and interruptions end."""

from __future__ import annotations

import contextlib
import functools
import sys
from typing import Any, Callable, Iterator, TypeVar, cast

from adq_edge.core.errors import AdqError, MissingDependencyError

Command = TypeVar("Command", bound=Callable[..., Any])

INTERRUPTED = 130


def verb(command: Command) -> Command:
    """Wrap a command: an `AdqError` becomes one line and exit code 2, Ctrl-C exit code 130."""

    @functools.wraps(command)
    def run(*args: Any, **options: Any) -> Any:
        try:
            return command(*args, **options)
        except AdqError as error:
            print(f"adq-edge: {error}", file=sys.stderr)
            raise SystemExit(error.exit_code) from error
        except KeyboardInterrupt:
            print("adq-edge: interrupted", file=sys.stderr)
            raise SystemExit(INTERRUPTED) from None

    return cast(Command, run)


@contextlib.contextmanager
def needs_training_half() -> Iterator[None]:
    """Say what to install where the training half's torch is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"this verb needs {error.name}, which is not installed",
            fix="Install it: pip install 'adq-edge[train]'",
        ) from error
