"""The command line: parse, call, print. One file per verb, no logic."""

from __future__ import annotations

import signal
import sys
from typing import Any, Callable, Dict

import typer
import typer.core

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
from adq_edge.cli.common import verb
from adq_edge.cli.options import current_names
from adq_edge.core.streams import guard_output
from adq_edge.core.version import __version__

# Loading rich would double the time of --help. Some releases of typer load it even in plain mode.
typer.core.HAS_RICH = False

app = typer.Typer(
    name="adq-edge",
    help="Turn a trained visual anomaly model into a measured INT8 or FP16 engine, and measure what the "
    "quantization costs.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(show: bool) -> None:
    if show:
        typer.echo(f"adq-edge {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    """Declare the options in front of the verb."""


_VERBS: Dict[str, Callable[..., None]] = {
    "train": train.train,
    "export": export.export,
    "calibrate": calibrate.calibrate,
    "analyze": analyze.analyze,
    "build": build.build,
    "eval": evaluate.evaluate,
    "compare": compare.compare,
    "bench": bench.bench,
    "report": report.report,
    "predict": predict.predict,
    "demo": demo.demo,
    "study": study.study,
    "synthetic": synthetic.synthetic,
    "doctor": doctor.doctor,
}
for _name, _command in _VERBS.items():
    app.command(_name)(verb(_command))


def _terminate(number: int, frame: Any) -> None:
    """Exit as Ctrl-C does, so that no half-written file and no process is left."""
    raise SystemExit(128 + number)


def main() -> None:
    """Run the command line."""
    guard_output()
    signal.signal(signal.SIGTERM, _terminate)
    app(args=current_names(sys.argv[1:]))
