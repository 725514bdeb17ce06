"""What a verb shows: a JSON document, or tables and lines; and the next command."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, Optional, Sequence, Tuple, Union

import typer

from adq_edge.cli import options
from adq_edge.cli.arguments import check_paths
from adq_edge.core.errors import AdqError
from adq_edge.core.text import command_line

if TYPE_CHECKING:
    from adq_edge.core.records import Record
    from adq_edge.report.table import Table

_KIB_PER_MB = 1e6 / 1024
_AS_JSON = "as_json"
"""A parameter of each command; a command that declares it itself gets its value."""


@dataclasses.dataclass(frozen=True)
class Output:
    """The result of a verb.

    Attributes:
        document: the content of the result file, for `--json`; a list if there are several files.
        tables: printed without `--json`.
        lines: printed below the tables.
        next_step: the arguments of the next command, or a sentence; None if nothing follows.
        result: the result file, named on standard error.
        warnings: what needs attention; the tables have it too, so it is printed with `--json` only.
        failures: what failed, printed on standard error.
        exit_code: the exit code of the verb.
        problem: an error that is raised after the result is shown.
    """

    document: Union[Record, Dict[str, Any], Sequence[Record]]
    tables: Sequence[Table] = ()
    lines: Sequence[str] = ()
    next_step: Union[str, Tuple[object, ...], None] = None
    result: Optional[Path] = None
    warnings: Sequence[str] = ()
    failures: Sequence[str] = ()
    exit_code: int = 0
    problem: Optional[AdqError] = None


@dataclasses.dataclass(frozen=True)
class OutputOptions:
    """The options of all verbs."""

    as_json: bool
    verbose: bool
    quiet: bool

    def __or__(self, other: OutputOptions) -> OutputOptions:
        return OutputOptions(
            self.as_json or other.as_json, self.verbose or other.verbose, self.quiet or other.quiet
        )


def with_output(command: Callable[..., Optional[Output]]) -> Callable[..., None]:
    """Add the options of all verbs to a command, and show the result that it returns.

    A command that returns None has shown its result itself.
    """

    @functools.wraps(command)
    def run(
        context: typer.Context, as_json: bool, verbose: bool, quiet: bool, *args: Any, **values: Any
    ) -> None:
        asked = OutputOptions(as_json, verbose, quiet)
        if isinstance(context.obj, OutputOptions):
            asked |= context.obj
        if _AS_JSON in inspect.signature(command).parameters:
            values[_AS_JSON] = asked.as_json
        with _details(str(context.info_name), asked):
            check_paths(values)
            if asked.as_json and command.__name__ not in _STREAMING:
                with contextlib.redirect_stdout(sys.stderr):
                    output = command(*args, **values)
            else:
                output = command(*args, **values)
        if output is not None:
            show_output(output, asked)

    run.__signature__ = _signature(command)  # type: ignore[attr-defined]  # read by typer, unknown to mypy
    return run


_STREAMING = ("predict", "run")
"""Commands that print JSON lines in any case."""


def _signature(command: Callable[..., Any]) -> inspect.Signature:
    """Return the signature that typer reads.

    Before Python 3.10 typer does not evaluate annotations that are strings, and would miss the options.
    """
    parameters = [
        parameter.replace(annotation=eval(parameter.annotation, command.__globals__))
        for parameter in inspect.signature(command).parameters.values()
        if parameter.name != _AS_JSON
    ]
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    own = [inspect.Parameter("context", kind, annotation=typer.Context)]
    for name, annotation in (
        (_AS_JSON, options.Json),
        ("verbose", options.Verbose),
        ("quiet", options.Quiet),
    ):
        parameters.append(inspect.Parameter(name, kind, annotation=annotation, default=False))
    return inspect.Signature([*own, *parameters])


@contextlib.contextmanager
def _details(name: str, asked: OutputOptions) -> Iterator[None]:
    """Apply --verbose and --quiet while a verb runs; with --verbose print its duration and memory."""
    import warnings

    from adq_edge.core.console import Verbosity, print_detail, set_verbosity

    if asked.verbose and asked.quiet:
        raise AdqError("--verbose and --quiet exclude each other", fix="Give one of them")
    level = Verbosity.VERBOSE if asked.verbose else Verbosity.QUIET if asked.quiet else Verbosity.NORMAL
    set_verbosity(level)
    started = time.monotonic()
    try:
        with warnings.catch_warnings():
            if not sys.warnoptions:
                warnings.simplefilter("default" if asked.verbose else "ignore")
            yield
    finally:
        print_detail(f"{name}: {time.monotonic() - started:.1f} s{_peak_memory()}")


def _peak_memory() -> str:
    if not sys.platform.startswith("linux"):  # other systems lack the module, or count in other units
        return ""
    import resource

    return f", peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _KIB_PER_MB:.0f} MB"


def show_output(output: Output, asked: OutputOptions) -> None:
    """Print a result and the next command; raise the problem, or exit with the exit code."""
    if asked.as_json:
        _print_json(output.document)
    else:
        _print_text(output)
    sys.stdout.flush()
    for failure in output.failures:
        print(f"adq-edge: {failure}", file=sys.stderr)
    if output.problem is not None:
        raise output.problem
    for warning in output.warnings if asked.as_json and not asked.quiet else ():
        print(f"adq-edge: {warning}", file=sys.stderr)
    if output.result is not None and not asked.quiet:
        print(f"result: {output.result}", file=sys.stderr)
    if output.next_step is not None and not (asked.quiet or asked.as_json):
        step = output.next_step if isinstance(output.next_step, str) else command_line(*output.next_step)
        print(f"next: {step}", file=sys.stderr)
    if output.exit_code:
        raise typer.Exit(output.exit_code)


def _print_text(output: Output) -> None:
    if output.tables:
        from adq_edge.report.render.terminal import print_tables

        print_tables(output.tables)
    for line in output.lines:
        typer.echo(line)


def _print_json(document: Any) -> None:
    from adq_edge.core.json_lines import print_json_text

    text = json.dumps(_documents(document), indent=2, ensure_ascii=False, allow_nan=False, default=_path_text)
    print_json_text(text)


def _documents(document: Any) -> Any:
    if isinstance(document, (list, tuple)):
        return [_documents(one) for one in document]
    return document.document() if hasattr(document, "document") else document


def _path_text(value: object) -> str:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} in a JSON document")
