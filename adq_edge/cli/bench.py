"""`adq-edge bench`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence, Tuple

import typer

from adq_edge.cli import options
from adq_edge.cli.completion import complete_paths
from adq_edge.cli.output import Output
from adq_edge.core.errors import AdqError
from adq_edge.core.options import Device, Precision, Scenario

if TYPE_CHECKING:
    from adq_edge.hardware.jetson import Jetson
    from adq_edge.remote.bench import BoardResult
    from adq_edge.report.table import Table


def bench(
    engines: Optional[List[Path]] = typer.Argument(
        None,
        metavar="ENGINE",
        autocompletion=complete_paths("ENGINE"),
        help="Engine files. Default: the newest in engines/. With --host also bundles; default: the newest "
        "in bundles/.",
    ),
    device: Optional[Device] = typer.Option(
        None,
        metavar=options.names(Device),
        help="Device to measure. Default: the device that the first engine was built for; with --host: "
        "jetson.",
    ),
    scenario: Optional[List[Scenario]] = typer.Option(
        None, metavar=options.names(Scenario), help="MLPerf scenario; may be repeated. Default: both."
    ),
    runtime: options.Runtime = None,
    threads: options.Threads = None,
    quick: bool = typer.Option(False, "--quick", help="Measure for a few seconds only; not to be quoted."),
    no_cuda_graph: bool = typer.Option(
        False, "--no-cuda-graph", help="TensorRT: start each kernel by itself, to compare with a CUDA graph."
    ),
    image: Optional[Path] = typer.Option(
        None,
        metavar=options.FILE,
        help="Image file for the end-to-end figures. Default: a synthetic image of 1024x1024 pixels.",
    ),
    host: Optional[List[str]] = typer.Option(
        None,
        metavar="[USER@]BOARD",
        help="Board to build and measure on over ssh; may be repeated. Default: this machine. "
        "ADQ_EDGE_SSH sets another ssh command.",
    ),
    precision: Optional[Precision] = typer.Option(
        None,
        metavar=options.names(Precision),
        help="With --host: precision of the engines built from bundles. Default: int8.",
    ),
    data: Optional[Path] = typer.Option(
        None,
        metavar=options.FOLDER,
        help="With --host: labeled dataset; the measured engines are evaluated on it too. Default: none.",
    ),
    layout: options.Layout = None,
    submit: bool = typer.Option(
        False,
        "--submit",
        help="Also write the figures of the board to benchmarks/submissions/, to send in: a file without "
        "names of users, hosts, files or products, and without addresses.",
    ),
    estimate: Optional[Path] = typer.Option(
        None,
        metavar="BUNDLE",
        autocompletion=complete_paths("BUNDLE"),
        help="Measure nothing; print an estimate of the latency of a bundle's engines on the Jetson --board, "
        "for each power mode. Default: measure.",
    ),
    board: Optional[str] = typer.Option(
        None,
        metavar="NAME",
        help="With --estimate: Jetson to estimate for: xavier-nx, agx-xavier, orin-nano, orin-nano-super, "
        "orin-nx-8, orin-nx-16, agx-orin-32, agx-orin-64, thor-t4000, thor-t5000, and others that a wrong "
        "name lists. Default: xavier-nx.",
    ),
) -> Output:
    """Measure latency, throughput, memory and power. Several engines take turns in short rounds."""
    if estimate is not None:
        if host or data is not None or precision is not None or submit:
            fix = "Omit --host, --data, --precision and --submit"
            raise AdqError("--estimate measures nothing", fix=fix)
        return _estimate(estimate, engines or [], board)
    if board is not None:
        raise AdqError("--board is for --estimate", fix="Name the bundle: --estimate BUNDLE")
    measured: Dict[str, Any] = {
        "runtime": runtime,
        "threads": threads,
        "quick": quick,
        "scenarios": scenario or None,
        "image": image,
        "cuda_graph": not no_cuda_graph,
    }
    if host:
        from adq_edge.remote.bench import bench_remotely

        if submit:
            from adq_edge.report.submit import check_folder

            check_folder()
        device, precision = device or Device.JETSON, precision or Precision.INT8
        return boards_output(
            bench_remotely(host, engines or (), device=device, precision=precision, data=data, **measured),
            submit,
        )
    if data is not None or precision is not None:
        raise AdqError("--data and --precision are for --host", fix="Use eval and build on this machine")
    return _bench(engines or [], device, measured, submit)


def _bench(engines: List[Path], device: Optional[Device], measured: Dict[str, Any], submit: bool) -> Output:
    from adq_edge.artifacts.workspace import RESULTS, SUBMISSIONS
    from adq_edge.benchmark.bench import UnsavedReportError, result_files
    from adq_edge.benchmark.bench import bench as run
    from adq_edge.report.tables.bench import bench_tables

    if submit:
        from adq_edge.report.submit import check_board

        check_board(engines, device)
    try:
        report = run(engines or None, device=device, **measured)
    except UnsavedReportError as error:
        return Output(error.report, bench_tables(error.report), problem=error)
    files = result_files(report)
    lines = [f"result: {path}" for path in files]
    problem, shown = None, [RESULTS]
    if submit:
        from adq_edge.hardware.jetson import read_jetson
        from adq_edge.report.submit import evaluations_in

        submission, problem = _submit(files, read_jetson(), evaluations_in())
        lines += [f"submission: {path}" for path in submission]
        shown += [SUBMISSIONS] if submission else []
    return Output(report, bench_tables(report), lines, next_step=("report", *shown), problem=problem)


def _submit(
    results: Sequence[Path], jetson: Optional[Jetson], others: Sequence[Path]
) -> Tuple[List[Path], Optional[AdqError]]:
    """Write a submission; return its path, or the error that must not hide the results."""
    from adq_edge.report.submit import write_submission

    try:
        return [write_submission(results, jetson, others)], None
    except AdqError as error:
        return [], error


def boards_output(results: List[BoardResult], submit: bool = False) -> Output:
    """Return the results of boards; the problem of one board does not hide the results of the others."""
    from adq_edge.core.text import printable
    from adq_edge.report.tables.remote import board_document, board_jetson, board_lines, board_tables

    boards: List[Dict[str, Any]] = []
    tables: List[Table] = []
    lines: List[str] = []
    problems: List[AdqError] = []
    for result in results:
        try:
            document, shown = board_document(result), (board_tables(result), [*board_lines(result)])
        except AdqError as error:
            problems.append(error)
        else:
            boards.append(document)
            tables += shown[0]
            lines += map(printable, shown[1])
            if submit and result.problem is None:
                submission, problem = _submit(result.benchmarks, board_jetson(result), result.evaluations)
                lines += [f"{printable(result.host)}: submission: {path}" for path in submission]
                problems += [] if problem is None else [problem]
        if result.problem is not None:
            problems.append(result.problem)
    folders = dict.fromkeys(path.parent for result in results for path in result.benchmarks)
    return Output(
        {"schema": "adq-edge/boards", "version": 1, "boards": boards},
        tables,
        lines,
        next_step=("report", *folders) if folders else None,
        failures=[str(problem) for problem in problems],
        exit_code=AdqError.exit_code if problems else 0,
    )


def _estimate(bundle: Path, engines: List[Path], board: Optional[str]) -> Output:
    from adq_edge.hardware.boards import DEFAULT_BOARD
    from adq_edge.report.tables.estimate import estimate_table
    from adq_edge.roofline.estimate import estimate

    if engines:
        raise AdqError("--estimate measures no engine", where=engines[0], fix="Name only a bundle")
    result = estimate(bundle, board=DEFAULT_BOARD if board is None else board)
    return Output(result, [estimate_table(result)], next_step=("build", bundle, "--int8"))
