"""`adq-edge predict`."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import List, Optional

import typer

from adq_edge.artifacts import workspace
from adq_edge.cli.common import verb

SOME_UNREADABLE = 1


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(name="predict")(predict)


@verb
def predict(
    engine: Path = typer.Argument(..., help="Engine."),
    images: List[Path] = typer.Argument(..., help="Images, or folders of images."),
    output: Path = typer.Option(workspace.PREDICTIONS, "--output", "-o", help="Folder for the heat maps."),
    heat_maps: bool = typer.Option(True, "--heat-maps/--no-heat-maps", help="Write heat-map overlays."),
    runtime: Optional[str] = typer.Option(None, "--runtime", help="Another runtime than the engine's."),
    threads: Optional[int] = typer.Option(None, "--threads", min=1, help="CPU threads; all by default."),
    trust: bool = typer.Option(False, "--trust", help="Take an engine that was changed since it was built."),
) -> None:
    """Score images: one JSON line each, and heat-map overlays.

    Exit code 1 says that some images could not be read.
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
