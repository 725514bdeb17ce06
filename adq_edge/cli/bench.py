"""`adq-edge bench`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, List, Optional

import typer

from adq_edge.cli.common import verb
from adq_edge.core.errors import AdqError
from adq_edge.core.options import Device, Precision, Scenario

if TYPE_CHECKING:
    from adq_edge.benchmark.results import BenchmarkReport
    from adq_edge.remote.bench import BoardResult


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(name="bench")(bench)


@verb
def bench(
    engines: Optional[List[Path]] = typer.Argument(
        None,
        help="Engines; the newest in engines/ by default. For --host also bundles; the newest in bundles/.",
    ),
    device: Optional[Device] = typer.Option(
        None, "--device", help="What is measured; by default what the first engine was built for."
    ),
    scenario: Optional[List[Scenario]] = typer.Option(
        None, "--scenario", help="By MLPerf's names, may be given again; both by default."
    ),
    runtime: Optional[str] = typer.Option(
        None,
        "--runtime",
        help="Another runtime than the engine's; for its best speed build with --runtime as well.",
    ),
    threads: Optional[int] = typer.Option(None, "--threads", min=1, help="CPU threads; all by default."),
    quick: bool = typer.Option(False, "--quick", help="A look in a few seconds; not to be quoted."),
    image: Optional[Path] = typer.Option(None, "--image", help="Encoded image for the end-to-end figures."),
    host: Optional[List[str]] = typer.Option(
        None,
        "--host",
        help="Board to build and measure on over ssh, user@board; may be given again. Its device is jetson "
        "by default; ADQ_EDGE_SSH names another ssh, with options.",
    ),
    precision: Optional[Precision] = typer.Option(
        None, "--precision", help="For --host: of bundles' engines; int8 by default."
    ),
    data: Optional[Path] = typer.Option(
        None, "--data", help="For --host: labelled dataset, for the quality of the very engines measured."
    ),
    estimate: Optional[Path] = typer.Option(
        None,
        "--estimate",
        help="Bundle: measure nothing, estimate its engines' time on a Xavier NX in each power mode.",
    ),
) -> None:
    """Measure latency, throughput, memory and power; several engines take turns in short rounds."""
    if estimate is not None:
        if host or data is not None or precision is not None:
            raise AdqError("--estimate measures nothing, here or on a board", fix="Name a bundle alone")
        _print_estimate(estimate, engines or [])
        return
    if host:
        from adq_edge.remote.bench import bench_remotely

        results = bench_remotely(
            host,
            engines or (),
            device=device or Device.JETSON,
            precision=precision or Precision.INT8,
            data=data,
            runtime=runtime,
            threads=threads,
            quick=quick,
            scenarios=scenario,
            image=image,
        )
        _print_boards(results)
        return
    if data is not None or precision is not None:
        raise AdqError("--data and --precision are for --host", fix="Use eval and build here")
    from adq_edge.benchmark.bench import UnsavedReportError, result_files
    from adq_edge.benchmark.bench import bench as run

    try:
        report = run(
            engines or None,
            device=device,
            runtime=runtime,
            threads=threads,
            quick=quick,
            scenarios=scenario or None,
            image=image,
        )
    except UnsavedReportError as error:
        _print_report(error.report)
        raise
    _print_report(report)
    for path in result_files(report):
        typer.echo(f"result: {path}")


def _print_report(report: BenchmarkReport) -> None:
    from adq_edge.report.render.terminal import print_table
    from adq_edge.report.tables.bench import bench_tables

    for table in bench_tables(report):
        print_table(table)


def _print_boards(results: List[BoardResult]) -> None:
    from adq_edge.report.render.terminal import print_table
    from adq_edge.report.tables.remote import board_lines, board_tables

    for result in results:
        for table in board_tables(result):
            print_table(table)
        for line in board_lines(result):
            typer.echo(line)
    problems = [result.problem for result in results if result.problem is not None]
    for problem in problems:
        typer.echo(f"adq-edge: {problem}", err=True)
    if problems:
        raise typer.Exit(AdqError.exit_code)


def _print_estimate(bundle: Path, engines: List[Path]) -> None:
    from adq_edge.report.render.terminal import print_table
    from adq_edge.report.tables.estimate import estimate_table
    from adq_edge.roofline.estimate import estimate

    if engines:
        raise AdqError("--estimate measures no engine", where=engines[0], fix="Name a bundle alone")
    print_table(estimate_table(estimate(bundle)))
