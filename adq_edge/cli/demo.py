"""`adq-edge demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Optional, Tuple

import typer

from adq_edge.cli import options
from adq_edge.cli.common import needs_training_half
from adq_edge.cli.output import Output
from adq_edge.core.text import command_line


def demo(
    data: Optional[Path] = typer.Option(
        None,
        metavar=options.FOLDER,
        help="Folder of your images: good/ and bad/, or another layout. Default: synthetic images are drawn.",
    ),
    layout: options.Layout = None,
    folder: Path = typer.Option(Path("demo"), metavar=options.FOLDER, help="Working folder."),
    teacher_weights: str = typer.Option(
        "demo",
        metavar=options.FILE,
        help="ResNet-18 weights of the teacher: a file, or 'demo' for those that adq-edge contains.",
    ),
    restart: options.Restart = False,
) -> Output:
    """Run every step once with a small model.

    The steps are images, training, export, FP32 and INT8 engines, quality and speed. On your own images it
    also gives verdicts and heat maps of the test images. The same command goes on with an interrupted demo.
    """
    from adq_edge.artifacts.workspace import REPORT, RESULTS
    from adq_edge.report.tables.headline import summary_table

    with needs_training_half():
        from adq_edge.datasets.layouts.registry import layout_arguments
        from adq_edge.study.demo import HEAT_MAPS
        from adq_edge.study.demo import demo as run

    result = run(
        folder, None if data is None else data.expanduser(), teacher_weights=teacher_weights, restart=restart
    )
    document = {
        "schema": "adq-edge/demo",
        "version": 1,
        "bench": [row.report.document() for row in result.rows],
        "eval": [row.quality.document() for row in result.rows if row.quality is not None],
        "engines": [str(path) for path in result.engines],
        "heat_maps": str(result.heat_maps),
        "verdicts": list(result.verdicts),
    }
    lines = [*result.verdicts, f"heat maps: {result.heat_maps}"]
    if result.verdicts:
        lines.append(f"each test image with its heat map: {folder / HEAT_MAPS}")
        longer = command_line("train", "--data", data, *layout_arguments())
        lines.append(f"this was a short training on small images; for better verdicts: {longer}")
    lines.append(f"engines: {', '.join(map(str, result.engines))}")
    tables = [summary_table(result.rows, result.caveat)]
    following: Tuple[object, ...] = ("report", folder / RESULTS, "-o", folder / REPORT)
    if result.verdicts:
        following = ("predict", result.engines[-1], "NEW_IMAGES")
    return Output(document, tables, lines, next_step=following)
