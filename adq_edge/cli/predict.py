"""`adq-edge predict`."""

from __future__ import annotations

from pathlib import Path
from typing import List

import typer

from adq_edge.cli import options
from adq_edge.core.text import number_of

NOT_ALL_JUDGED = 1


def predict(
    paths: List[Path] = typer.Argument(
        ...,
        metavar="[ENGINE] IMAGE_OR_FOLDER",
        help="Engine file, then images or folders of images; folders are read with all folders below. "
        "Default engine: the newest in engines/.",
    ),
    output: Path = typer.Option(
        Path("predictions"),
        "--output",
        "-o",
        help="Folder for the heat maps; no file in it is overwritten.",
    ),
    heat_maps: bool = typer.Option(True, "--heat-maps/--no-heat-maps", help="Write heat-map overlays."),
    runtime: options.Runtime = None,
    threads: options.Threads = None,
    trust: options.Trust = False,
) -> None:
    """Judge images: one line of JSON and one heat map each.

    Fields of a line: image, verdict ("good", "anomalous" or null), score, threshold, anomalous (true, false
    or null), heat_map (file or null), error (text or null). An image without a verdict has an error; it
    does not count as good.

    Exit code: 0 if every image got a verdict, 1 if some did not, 2 if nothing could start.
    """
    from adq_edge.artifacts import workspace
    from adq_edge.core.console import console
    from adq_edge.core.json_lines import print_json_line
    from adq_edge.evaluation.predict import predict as run
    from adq_edge.evaluation.predict_arguments import split_arguments
    from adq_edge.runtimes.registry import load_engine

    engine, images = split_arguments(paths)
    if engine is None:
        engine = workspace.latest_engine()
        console.print(f"engine: {engine}", highlight=False, markup=False, soft_wrap=True)
    errors: List[str] = []
    count = 0
    with load_engine(engine, runtime=runtime, threads=threads, trust=trust) as loaded:
        for prediction in run(loaded, images, output=output if heat_maps else None):
            print_json_line(prediction.fields())
            count += 1
            errors += [] if prediction.error is None else [prediction.error]
    if errors:
        missed = f"{len(errors)} of {number_of(count, 'image')} not judged"
        typer.echo(f"adq-edge: {missed}. {errors[0]}", err=True)
        raise typer.Exit(NOT_ALL_JUDGED)
