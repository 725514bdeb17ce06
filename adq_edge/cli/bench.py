"""`adq-edge bench`."""

from __future__ import annotations

from pathlib import Path
from typing import List, Optional

import typer

from adq_edge.cli.common import verb
from adq_edge.options import Device, RuntimeName


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(name="bench")(bench)


@verb
def bench(
    engines: Optional[List[Path]] = typer.Argument(None, help="Engines; the newest in engines/ by default."),
    device: Device = typer.Option(Device.CPU, "--device", help="Where to run."),
    runtime: Optional[RuntimeName] = typer.Option(
        None, "--runtime", help="Another runtime than the engine's."
    ),
    threads: Optional[int] = typer.Option(None, "--threads", min=1, help="CPU threads; all by default."),
    quick: bool = typer.Option(False, "--quick", help="A look in a few seconds; not to be quoted."),
    image: Optional[Path] = typer.Option(None, "--image", help="Encoded image for the end-to-end figures."),
) -> None:
    """Measure latency, throughput and memory; several engines are interleaved query by query."""
    from adq_edge.benchmark.bench import bench as run
    from adq_edge.console import print_table
    from adq_edge.report.tables import latency_table, stages_table

    report = run(engines or None, device=device, runtime=runtime, threads=threads, quick=quick, image=image)
    print_table(latency_table(report))
    print_table(stages_table(report))
