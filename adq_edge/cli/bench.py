"""`adq-edge bench`."""

from __future__ import annotations

from pathlib import Path
from typing import List, Optional

import typer

from adq_edge.cli.common import verb
from adq_edge.errors import AdqError
from adq_edge.options import Device, RuntimeName


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(name="bench")(bench)


@verb
def bench(
    engines: Optional[List[Path]] = typer.Argument(None, help="Engines; the newest in engines/ by default."),
    device: Optional[Device] = typer.Option(
        None, "--device", help="What the engines must have been built for; that of the first one by default."
    ),
    runtime: Optional[RuntimeName] = typer.Option(
        None, "--runtime", help="Another runtime than the engine's."
    ),
    threads: Optional[int] = typer.Option(None, "--threads", min=1, help="CPU threads; all by default."),
    quick: bool = typer.Option(False, "--quick", help="A look in a few seconds; not to be quoted."),
    image: Optional[Path] = typer.Option(None, "--image", help="Encoded image for the end-to-end figures."),
    estimate: Optional[Path] = typer.Option(
        None,
        "--estimate",
        help="Bundle: measure nothing, estimate its engines' time on a Xavier NX in each power mode.",
    ),
) -> None:
    """Measure latency, throughput and memory; several engines are interleaved query by query."""
    if estimate is not None:
        _print_estimate(estimate, engines or [])
        return
    from adq_edge.benchmark.bench import bench as run
    from adq_edge.console import print_table
    from adq_edge.report.tables import latency_table, stages_table

    report = run(engines or None, device=device, runtime=runtime, threads=threads, quick=quick, image=image)
    print_table(latency_table(report))
    print_table(stages_table(report))


def _print_estimate(bundle: Path, engines: List[Path]) -> None:
    from adq_edge.console import print_table
    from adq_edge.estimating.estimate import estimate
    from adq_edge.report.estimate import estimate_table

    if engines:
        raise AdqError("--estimate measures no engine", where=engines[0], fix="Name a bundle alone")
    print_table(estimate_table(estimate(bundle)))
