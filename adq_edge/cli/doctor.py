"""`adq-edge doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import typer

from adq_edge.cli import options
from adq_edge.cli.output import Output
from adq_edge.core.errors import AdqError


def doctor(
    output: Optional[Path] = typer.Option(
        None, "--output", "-o", metavar=options.FILE, help="Result file (.json). Default: none is written."
    ),
) -> Output:
    """Show what adq-edge can do here, and what to fix next."""
    from adq_edge.hardware.diagnosis import TRAINING
    from adq_edge.hardware.doctor import diagnose
    from adq_edge.report.tables.doctor import (
        capabilities_table,
        int8_table,
        machine_table,
        next_step_line,
    )

    diagnosis = diagnose()
    problem: Optional[AdqError] = None
    if output is not None:
        try:
            diagnosis.write(output)
        except AdqError as error:
            problem = error
    trains = any(one.possible for one in diagnosis.capabilities if one.name == TRAINING)
    tables = [machine_table(diagnosis.inventory), capabilities_table(diagnosis)]
    return Output(
        diagnosis,
        [*tables, int8_table(diagnosis)] if diagnosis.int8 else tables,
        [next_step_line(diagnosis)],
        next_step=("demo",) if trains and diagnosis.next_step is None else None,
        problem=problem,
    )
