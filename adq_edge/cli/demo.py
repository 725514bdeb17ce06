"""`adq-edge demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import typer

from adq_edge.cli import options
from adq_edge.cli.common import needs_training_half


def demo(
    data: Optional[Path] = typer.Option(
        None, help="Dataset in MVTec AD layout. Default: synthetic images are drawn."
    ),
    folder: Path = typer.Option(Path("demo"), help="Working folder."),
    teacher_weights: str = typer.Option(
        "demo", help="ResNet-18 weights of the teacher: a file, or 'demo' for those that adq-edge contains."
    ),
    restart: options.Restart = False,
) -> None:
    """Run every step once: images, training, export, FP32 and INT8 engines, quality, speed."""
    from adq_edge.report.render.terminal import print_table
    from adq_edge.report.tables.headline import summary_table

    with needs_training_half():
        from adq_edge.study.demo import demo as run

    result = run(folder, data, teacher_weights=teacher_weights, restart=restart)
    print_table(summary_table(result.rows, result.caveat))
    typer.echo(f"heat maps: {result.heat_maps}")
    typer.echo(f"engines: {', '.join(str(path) for path in result.engines)}")
