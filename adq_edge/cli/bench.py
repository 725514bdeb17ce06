"""`adq-edge bench`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, List, Optional

import typer

from adq_edge.cli import options
from adq_edge.core.errors import AdqError
from adq_edge.core.options import Device, Precision, Scenario

if TYPE_CHECKING:
    from adq_edge.benchmark.results import BenchmarkReport
    from adq_edge.remote.bench import BoardResult


def bench(
    engines: Optional[List[Path]] = typer.Argument(
        None,
        help="Engine files. Default: the newest in engines/. With --host also bundles; default: the newest "
        "in bundles/.",
    ),
    device: Optional[Device] = typer.Option(
        None, help="Device to measure. Default: the device that the first engine was built for."
    ),
    scenario: Optional[List[Scenario]] = typer.Option(
        None, help="MLPerf scenario; may be repeated. Default: both."
    ),
    runtime: options.Runtime = None,
    threads: options.Threads = None,
    quick: bool = typer.Option(False, "--quick", help="Measure for a few seconds only; not to be quoted."),
    image: Optional[Path] = typer.Option(
        None, help="Image file for the end-to-end figures. Default: a synthetic image of 1024x1024 pixels."
    ),
    host: Optional[List[str]] = typer.Option(
        None,
        help="Board (user@board) to build and measure on over ssh; may be repeated. Its default --device is "
        "jetson. ADQ_EDGE_SSH sets another ssh command.",
    ),
    precision: Optional[Precision] = typer.Option(
        None, help="With --host: precision of the engines built from bundles. Default: int8."
    ),
    data: Optional[Path] = typer.Option(
        None, help="With --host: labeled dataset; the measured engines are evaluated on it too."
    ),
    estimate: Optional[Path] = typer.Option(
        None,
        help="Bundle. Measure nothing; print an estimate of the latency of its engines on a Xavier NX, for "
        "each power mode.",
    ),
) -> None:
    """Measure latency, throughput, memory and power. Several engines take turns in short rounds."""
    if estimate is not None:
        if host or data is not None or precision is not None:
            raise AdqError("--estimate measures nothing", fix="Omit --host, --data and --precision")
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
        code = print_boards(results)
        if code:
            raise typer.Exit(code)
        return
    if data is not None or precision is not None:
        raise AdqError("--data and --precision are for --host", fix="Use eval and build on this machine")
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


def print_boards(results: List[BoardResult]) -> int:
    """Print the tables and lines of boards, then their errors; return the exit code."""
    from adq_edge.core.text import printable
    from adq_edge.report.render.terminal import print_table
    from adq_edge.report.tables.remote import board_lines, board_tables

    problems: List[AdqError] = []
    for result in results:
        try:
            for table in board_tables(result):
                print_table(table)
            for line in board_lines(result):
                typer.echo(printable(line))
        except AdqError as error:  # one board's files must not hide another board's results
            problems.append(error)
        if result.problem is not None:
            problems.append(result.problem)
    for problem in problems:
        typer.echo(f"adq-edge: {problem}", err=True)
    return AdqError.exit_code if problems else 0


def _print_estimate(bundle: Path, engines: List[Path]) -> None:
    from adq_edge.report.render.terminal import print_table
    from adq_edge.report.tables.estimate import estimate_table
    from adq_edge.roofline.estimate import estimate

    if engines:
        raise AdqError("--estimate measures no engine", where=engines[0], fix="Name only a bundle")
    print_table(estimate_table(estimate(bundle)))
