"""The command line: parse, call, print. One file per verb, no logic."""

from __future__ import annotations

import os
import sys
from typing import Any, Callable, Dict, Optional, Sequence

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
    fit,
    import_model,
    package,
    predict,
    report,
    run,
    serve,
    stress,
    study,
    synthetic,
    train,
)
from adq_edge.cli.common import UsageError, handle_errors
from adq_edge.cli.groups import VerbCommand
from adq_edge.cli.options import JSON_HELP, QUIET_HELP, VERBOSE_HELP, current_names, verb_of
from adq_edge.cli.output import Output, OutputOptions, with_output
from adq_edge.core.interruption import exit_after, raise_on_signals, was_interrupted
from adq_edge.core.nearest import did_you_mean
from adq_edge.core.streams import guard_output, output_errors
from adq_edge.core.version import __version__

# Loading rich would double the time of --help. Some releases of typer load it even in plain mode.
typer.core.HAS_RICH = False

NAME = "adq-edge"
WRONG_USAGE = 2
_COMPLETION = "_ADQ_EDGE_COMPLETE"
"""Environment variable that a shell sets to ask for completions."""

app = typer.Typer(
    name=NAME,
    help="Turn a trained visual anomaly model into a measured INT8 or FP16 engine, and measure what the "
    "quantization costs.",
    epilog="Options of a verb: adq-edge VERB -h. Completion in bash, zsh or fish, once: adq-edge "
    "--install-completion. It completes verbs, options, choices, and the engines, bundles, checkpoints and "
    "result files that a verb takes.",
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
    context: typer.Context,
    version: bool = typer.Option(
        False, "--version", "-V", callback=_version, is_eager=True, help="Print the version and exit."
    ),
    as_json: bool = typer.Option(False, "--json", help=JSON_HELP),
    verbose: bool = typer.Option(False, "--verbose", "-v", help=VERBOSE_HELP),
    quiet: bool = typer.Option(False, "--quiet", "-q", help=QUIET_HELP),
) -> None:
    """Declare the options in front of the verb; each may also follow it."""
    context.obj = OutputOptions(as_json, verbose, quiet)


_VERBS: Dict[str, Callable[..., Optional[Output]]] = {
    "train": train.train,
    "export": export.export,
    "import": import_model.import_model,
    "calibrate": calibrate.calibrate,
    "analyze": analyze.analyze,
    "build": build.build,
    "fit": fit.fit,
    "eval": evaluate.evaluate,
    "compare": compare.compare,
    "stress": stress.stress,
    "bench": bench.bench,
    "report": report.report,
    "predict": predict.predict,
    "run": run.run,
    "serve": serve.serve,
    "package": package.package,
    "demo": demo.demo,
    "study": study.study,
    "synthetic": synthetic.synthetic,
    "doctor": doctor.doctor,
}
for _name, _command in _VERBS.items():
    app.command(_name, cls=VerbCommand)(handle_errors(with_output(_command)))


def main() -> None:
    """Run the command line."""
    guard_output()
    raise_on_signals()
    arguments = current_names(sys.argv[1:])
    try:
        with output_errors():
            _check_verb(arguments)
            code = app(args=arguments or ["--help"], prog_name=NAME, standalone_mode=False)
    except UsageError as error:
        print(f"adq-edge: {_usage_text(error)}", file=sys.stderr)
        raise SystemExit(WRONG_USAGE) from None
    except (typer.Abort, KeyboardInterrupt) as interruption:
        exit_after(interruption.__context__ or interruption)
    interrupted = was_interrupted()
    if code and interrupted is not None:  # outside of the verb; typer returns the code
        exit_after(interrupted)
    raise SystemExit(code if isinstance(code, int) else 0)


def _check_verb(arguments: Sequence[str]) -> None:
    """Raise a usage error for a verb that does not exist."""
    name = verb_of(arguments)
    if name is not None and name not in _VERBS and _COMPLETION not in os.environ:
        raise UsageError(f"no verb named {name!r}. {did_you_mean(name, _VERBS) or ''}")


def _usage_text(error: Any) -> str:
    """Return a wrong command line's problem, the nearest option and the help command, on one line."""
    context, option = getattr(error, "ctx", None), getattr(error, "option_name", None)
    command = NAME if context is None else context.command_path
    problem = error.format_message().replace("Value error, ", "")
    if context is not None and hasattr(error, "possibilities"):
        known = [name for parameter in context.command.get_params(context) for name in parameter.opts]
        problem = f"no option {option}. {did_you_mean(str(option), known) or ''}"
    problem = problem if problem.rstrip().endswith(("?", ".")) else f"{problem}."
    return " ".join(f"{problem} Help: {command} -h".split())
