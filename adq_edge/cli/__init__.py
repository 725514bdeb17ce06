"""The command line: parse, call, print. One file per verb, no logic."""

from __future__ import annotations

import signal
from typing import Any

import typer

from adq_edge.cli import (
    analyze,
    bench,
    build,
    calibrate,
    compare,
    demo,
    doctor,
    evaluate,
    export,
    predict,
    report,
    study,
    synthetic,
    train,
)
from adq_edge.core.version import __version__

app = typer.Typer(
    name="adq-edge",
    help="From a trained unified anomaly model to a measured INT8/FP16 engine, with proof of what the "
    "quantization cost.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(show: bool) -> None:
    if show:
        typer.echo(f"adq-edge {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version."
    ),
) -> None:
    """Hold the options that stand before the verb."""


for command in (
    train,
    export,
    calibrate,
    analyze,
    build,
    evaluate,
    compare,
    bench,
    report,
    predict,
    demo,
    study,
    synthetic,
    doctor,
):
    command.register(app)


def _terminate(number: int, frame: Any) -> None:
    """End as Ctrl-C does, so that nothing half-written and no process is left."""
    raise SystemExit(128 + number)


def main() -> None:
    """Run the command line."""
    signal.signal(signal.SIGTERM, _terminate)
    app()
