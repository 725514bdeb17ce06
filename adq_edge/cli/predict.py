"""`adq-edge predict`."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import List

import typer

from adq_edge.cli import options

SOME_UNREADABLE = 1


def predict(
    engine: Path = typer.Argument(..., help="Engine file."),
    images: List[Path] = typer.Argument(..., help="Image files, or folders of images."),
    output: Path = typer.Option(Path("predictions"), "--output", "-o", help="Folder for the heat maps."),
    heat_maps: bool = typer.Option(True, "--heat-maps/--no-heat-maps", help="Write heat-map overlays."),
    runtime: options.Runtime = None,
    threads: options.Threads = None,
    trust: options.Trust = False,
) -> None:
    """Score images: one JSON line per image, and heat-map overlays.

    The exit code is 1 if some images could not be read.
    """
    from adq_edge.evaluation.predict import predict as run
    from adq_edge.runtimes.registry import load_engine

    unreadable = 0
    with load_engine(engine, runtime=runtime, threads=threads, trust=trust) as loaded:
        for prediction in run(loaded, images, output=output if heat_maps else None):
            unreadable += prediction.error is not None
            typer.echo(json.dumps(dataclasses.asdict(prediction)))
    if unreadable:
        typer.echo(f"adq-edge: {unreadable} images could not be read", err=True)
        raise typer.Exit(SOME_UNREADABLE)
