"""`adq-edge demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import typer

from adq_edge.cli.common import needs_training_half, verb


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(name="demo")(demo)


@verb
def demo(
    data: Optional[Path] = typer.Option(
        None, "--data", help="Dataset in MVTec AD layout; a drawn one by default."
    ),
    folder: Path = typer.Option(Path("demo"), "--folder", help="Working folder."),
    teacher_weights: str = typer.Option("demo", "--teacher-weights", help="ResNet-18 file; ours by default."),
    restart: bool = typer.Option(False, "--restart", help="Train anew although there is a checkpoint."),
) -> None:
    """Go the whole way once: images, training, export, FP32 and INT8 engines, quality and speed."""
    from adq_edge.report.render.terminal import print_table
    from adq_edge.report.tables.headline import summary_table

    with needs_training_half():
        from adq_edge.study.demo import demo as run

    result = run(folder, data, teacher_weights=teacher_weights, restart=restart)
    print_table(summary_table(result.rows, result.caveat))
    typer.echo(f"heat maps: {result.heat_maps}")
    typer.echo(f"engines: {', '.join(str(path) for path in result.engines)}")
