"""`adq-edge study`."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import typer

from adq_edge.cli import options

SOME_FAILED = 1


def study(
    config: Optional[Path] = typer.Argument(
        None, help="Study description (.json). The options below override it."
    ),
    data: Optional[Path] = typer.Option(None, help="Dataset in MVTec AD layout."),
    teacher_weights: options.TeacherWeights = None,
    output: Optional[Path] = typer.Option(
        None, "--output", "-o", help="Working folder; a second run continues there. Default: study/."
    ),
    methods: Optional[str] = typer.Option(
        None, help="Methods to run, separated by commas. Default: all three."
    ),
    epochs: Optional[int] = typer.Option(
        None, help="Epochs of every training. Default: those of 'train' for each method."
    ),
    backbone: options.Backbone = None,
    quick: bool = typer.Option(
        False,
        "--quick",
        help="Use synthetic images and small settings: minutes; not to be quoted.",
    ),
) -> None:
    """Reproduce the tables of the published study: methods x training x precision x device.

    Each cell of the matrix is one file; a second run computes the missing cells. Tables are written to
    OUTPUT/study.md, all figures to OUTPUT/study.json. The exit code is 1 if some cells failed.
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
