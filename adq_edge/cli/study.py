"""`adq-edge study`."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import typer

from adq_edge.cli.common import verb

SOME_FAILED = 1


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(name="study")(study)


@verb
def study(
    config: Optional[Path] = typer.Argument(
        None, help="What to study, a JSON file; the options below go before what it says."
    ),
    data: Optional[Path] = typer.Option(None, "--data", help="Dataset in MVTec AD layout."),
    teacher_weights: Optional[str] = typer.Option(
        None, "--teacher-weights", help="The teachers' ResNet file, or 'demo'; torchvision's by default."
    ),
    output: Optional[Path] = typer.Option(
        None, "--output", "-o", help="Folder to work in, study by default; a second run goes on there."
    ),
    methods: Optional[str] = typer.Option(
        None, "--methods", help="Only these, with commas between them; all three by default."
    ),
    epochs: Optional[int] = typer.Option(
        None, "--epochs", help="Of every training; the study's numbers by default."
    ),
    backbone: Optional[str] = typer.Option(None, "--backbone", help="ResNet of Reverse Distillation."),
    quick: bool = typer.Option(
        False, "--quick", help="Drawn images and small settings, in minutes; not to be quoted."
    ),
) -> None:
    """Remake the study's tables with adq-edge's engines: methods x training x precision x device.

    Each cell of the matrix is a file: a second run does what is missing. Tables go to OUTPUT/study.md, every
    figure to OUTPUT/study.json. Exit code 1 says that some cells failed.
    """
    from adq_edge.report.render.terminal import print_table
    from adq_edge.study.config_file import read_config
    from adq_edge.study.run import MARKDOWN_FILE, RESULT_FILE
    from adq_edge.study.run import study as run
    from adq_edge.study.tables import notes_table, study_tables

    chosen = read_config(
        config,
        quick=quick,
        data=None if data is None else str(data),
        teacher_weights=teacher_weights,
        output=None if output is None else str(output),
        methods=None if methods is None else [name.strip() for name in methods.split(",")],
        epochs=epochs,
        backbone=backbone,
    )
    result = run(chosen)
    for table in (*study_tables(result), notes_table(result)):
        print_table(table)
    folder = Path(chosen.output)
    typer.echo(f"tables: {folder / MARKDOWN_FILE}; every figure: {folder / RESULT_FILE}")
    if result.failures:
        typer.echo(f"adq-edge: {len(result.failures)} cells failed", err=True)
        raise typer.Exit(SOME_FAILED)
