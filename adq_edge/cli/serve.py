"""`adq-edge serve`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import List, Optional

import typer

from adq_edge.cli import options
from adq_edge.core.quantities import parse_area, parse_share


def serve(
    engine: options.Engine = None,
    host: str = typer.Option("127.0.0.1", metavar="ADDRESS", help="Address to listen on."),
    port: int = typer.Option(
        8000, metavar=options.NUMBER, min=0, max=65535, help="Port to listen on; 0 for a free one."
    ),
    token_file: Optional[Path] = typer.Option(
        None,
        metavar=options.FILE,
        help="File with a token of 16 characters or more, which clients must send as 'Authorization: "
        "Bearer TOKEN'. Default: clients need no token.",
    ),
    max_body: int = typer.Option(
        64, metavar="MB", min=1, max=1000, help="Largest body of a request in MB; larger ones get 413."
    ),
    timeout: float = typer.Option(
        30.0, metavar="SECONDS", min=0.1, max=3600.0, help="Time in which a request must arrive, else 408."
    ),
    concurrency: int = typer.Option(
        2, metavar=options.COUNT, min=1, max=64, help="Number of images that are judged at the same time."
    ),
    queue: int = typer.Option(
        32, metavar=options.COUNT, min=0, max=1000, help="Number of requests that may wait; others get 503."
    ),
    product: Optional[str] = typer.Option(
        None, metavar="NAME", help="Product on all images. Default: each image's product is recognized."
    ),
    false_rejects: options.FalseRejects = None,
    min_area: Optional[str] = typer.Option(
        None,
        metavar=options.PIXELS,
        help="Smallest area of a region, in pixels of the image or as a percentage of it (1%). A part "
        "without a region of this size is not defective. Default: 0.",
    ),
    runtime: options.Runtime = None,
    threads: options.Threads = None,
    trust: options.Trust = False,
) -> None:
    """Serve an engine over HTTP: images in, verdicts out.

    POST /inspect takes an image file, as the body or in a form. It answers with the JSON line of 'predict'.

    The paths below /v2 are KServe's open inference protocol, version 2, which Triton's clients speak.

    Requests are answered from the end of the warm-up on. SIGTERM and Ctrl-C end the server: it finishes the
    requests that it has begun, and exits with 0.
    """
    from adq_edge.artifacts import workspace
    from adq_edge.core.console import console
    from adq_edge.core.errors import MissingDependencyError
    from adq_edge.evaluation.judge import Judge
    from adq_edge.evaluation.predict import DecisionOptions
    from adq_edge.runtimes.registry import load_engine
    from adq_edge.serving.settings import ServerSettings

    try:
        from adq_edge.serving.server import serve as run
    except ModuleNotFoundError as error:
        fix = "Install it: pip install 'adq-edge[serve]'"
        raise MissingDependencyError(f"serve needs {error.name}", fix=fix) from error

    rate = None if false_rejects is None else parse_share(false_rejects, "--false-rejects")
    pixels, share = (0.0, 0.0) if min_area is None else parse_area(min_area, "--min-area")
    token = None if token_file is None else _read_token(token_file)
    settings = ServerSettings(host, port, token, max_body, timeout, concurrency, queue)
    path = workspace.latest_engine() if engine is None else engine
    with load_engine(path, runtime=runtime, threads=threads, trust=trust) as loaded:
        inspector = DecisionOptions(rate, pixels, share, product).inspector(loaded)
        judge = Judge.of(loaded, inspector)
        for note in _notes(judge.error, settings.is_open, host):
            print(f"adq-edge: {note}", file=sys.stderr)

        def announce(url: str) -> None:
            text = f"ready: {url} (model {path.stem}, {loaded.runtime})"
            console.print(text, highlight=False, markup=False, soft_wrap=True)

        run(judge, settings, announce)


def _read_token(path: Path) -> str:
    """Return the token of --token-file; an error names the option."""
    from adq_edge.core.errors import AdqError
    from adq_edge.serving.settings import read_token

    try:
        return read_token(path)
    except AdqError as error:
        raise type(error)(error.what, where=f"--token-file {path}", fix=error.fix) from error


def _notes(error: Optional[str], is_open: bool, host: str) -> List[str]:
    """Return what needs attention: an engine without a verdict, or an open address without a token."""
    found = [] if error is None else [f"there will be no verdict: {error}"]
    if is_open:
        found.append(f"WARNING: other machines can reach {host}, and no token is needed. Use --token-file")
    return found
