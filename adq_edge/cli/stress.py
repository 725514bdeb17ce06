"""`adq-edge stress`."""

from __future__ import annotations

from pathlib import Path
from typing import List, Optional

import typer

from adq_edge.cli import options
from adq_edge.cli.completion import complete_paths
from adq_edge.cli.output import Output

CHANGES = (
    "less-light",
    "more-light",
    "stray-light",
    "less-contrast",
    "warmer",
    "colder",
    "defocus",
    "motion",
    "shift",
    "rotation",
    "noise",
    "jpeg",
)


def stress(
    engine: options.Engine = None,
    against: Optional[Path] = typer.Option(
        None,
        "--against",
        metavar="ENGINE",
        autocompletion=complete_paths("ENGINE"),
        help="Reference, typically FP32. Default: an FP32 engine of the same model in the same folder.",
    ),
    data: options.LabeledData = None,
    category: options.Categories = None,
    layout: options.Layout = None,
    change: Optional[List[str]] = typer.Option(
        None,
        **{**options.choices(*CHANGES), "metavar": "CHANGE"},
        help=f"Apply this change only; may be repeated: {', '.join(CHANGES)}. Default: all.",
    ),
    output: options.ResultFile = None,
    threads: options.Threads = None,
) -> Output:
    """Measure what changes of light, lens and position cost.

    Each image is changed at its full size: light, contrast, color, blur, shift, rotation, noise and JPEG, at
    five severities each. AUROC, false rejects and missed defects are shown beside those of an FP32 engine,
    with the products' own thresholds. The last lines state how far the line may drift. The same command goes
    on where an interrupted one stopped.
    """
    from adq_edge.evaluation.stress import result_file
    from adq_edge.evaluation.stress import stress as run
    from adq_edge.report.tables.stress import limits_table, severities_table

    result = run(
        engine,
        data,
        against=against,
        categories=category,
        changes=change,
        output=output,
        threads=threads,
    )
    written = result_file(result.engine.engine.name, output)
    return Output(
        result,
        [severities_table(result), limits_table(result)],
        next_step=("report", written),
        result=written,
    )
