"""`adq-edge doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import typer


def doctor(
    json: Optional[Path] = typer.Option(None, help="Write the diagnosis to this file too (.json)."),
) -> None:
    """Show this machine, what adq-edge can do on it, and the next problem to fix."""
    from adq_edge.hardware.doctor import diagnose
    from adq_edge.report.render.terminal import print_table
    from adq_edge.report.tables.doctor import (
        capabilities_table,
        int8_table,
        machine_table,
        next_step_line,
    )

    diagnosis = diagnose()
    print_table(machine_table(diagnosis.inventory))
    print_table(capabilities_table(diagnosis))
    if diagnosis.int8:
        print_table(int8_table(diagnosis))
    typer.echo(next_step_line(diagnosis))
    if json is not None:
        diagnosis.write(json)
