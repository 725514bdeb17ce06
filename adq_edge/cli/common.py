"""Error handling that all verbs share."""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
from typing import Any, Callable, Iterator

from adq_edge.core.errors import AdqError, MissingDependencyError

INTERRUPTED = 130


def verb(command: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a command: an `AdqError` prints one line and exits with 2, Ctrl-C exits with 130."""

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

    # Before Python 3.10 typer does not evaluate annotations that are strings, and would miss the options.
    signature = inspect.signature(command)
    parameters = [
        parameter.replace(annotation=eval(parameter.annotation, command.__globals__))
        for parameter in signature.parameters.values()
    ]
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]  # for `inspect`
    return run


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
