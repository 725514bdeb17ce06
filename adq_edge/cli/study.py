"""`adq-edge study`."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import typer

from adq_edge.cli import options
from adq_edge.cli.output import Output
from adq_edge.core.methods import STUDY_METHODS

SOME_FAILED = 1


def study(
    config: Optional[Path] = typer.Argument(
        None,
        metavar="CONFIG",
        help="Study description (.json). The options below override it. Default: the options alone.",
    ),
    data: Optional[Path] = typer.Option(
        None, metavar=options.FOLDER, help="Dataset folder. Default: synthetic images are drawn."
    ),
    layout: options.Layout = None,
    teacher_weights: options.TeacherWeights = None,
    output: Optional[Path] = typer.Option(
        None,
        "--output",
        "-o",
        metavar=options.FOLDER,
        help="Working folder; a second run continues there. Default: study/.",
    ),
    methods: Optional[str] = typer.Option(
        None,
        **options.choices(*STUDY_METHODS, several=True),
        help="Methods to run, separated by commas. Default: those of the published study.",
    ),
    epochs: Optional[int] = typer.Option(
        None,
        metavar=options.COUNT,
        help="Epochs of every training. Default: those of 'train' for each method.",
    ),
    backbone: options.Backbone = None,
    quick: bool = typer.Option(
        False,
        "--quick",
        help="Use synthetic images and small settings: minutes; not to be quoted.",
    ),
) -> Output:
    """Reproduce the tables of the published study.

    The matrix is methods x training x precision x device. Each cell is one file; a second run computes the
    missing cells. Tables are written to OUTPUT/study.md, all figures to OUTPUT/study.json. The exit code is 1
    if some cells failed.
    """
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
    folder, failed = Path(chosen.output), len(result.failures)
    return Output(
        result,
        [*study_tables(result), notes_table(result)],
        [f"tables: {folder / MARKDOWN_FILE}; every figure: {folder / RESULT_FILE}"],
        next_step=None if failed else ("report", folder),
        failures=[f"cells failed: {failed}; the same command runs them again"] if failed else [],
        exit_code=SOME_FAILED if failed else 0,
    )
