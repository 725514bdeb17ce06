"""`bench --host`: builds, evaluates and measures engines on boards, and fetches the results."""

from __future__ import annotations

import dataclasses
import re
import threading
import traceback
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple, Union

from adq_edge.artifacts import workspace
from adq_edge.core.errors import AdqError, StorageError
from adq_edge.core.images.imaging import read_image
from adq_edge.core.options import Device, Precision, Scenario, choose
from adq_edge.core.runtimes import find_runtime
from adq_edge.remote.bench_job import RESULTS, Request, extras_for, make_job
from adq_edge.remote.board import PATIENCE_SECONDS, Board
from adq_edge.remote.engine_specs import EngineSpec, read_specs
from adq_edge.remote.errors import HostError, StoppedError
from adq_edge.remote.installation import adq_edge_command, install
from adq_edge.remote.jobs import JobResult, job_error, run_job
from adq_edge.remote.progress import BoardsDisplay
from adq_edge.remote.results import (
    FAULT_LOG,
    INSTALL_LOG,
    LOG,
    ExpectedEngine,
    ResultFiles,
    check_targets,
    result_names,
    write_log,
    write_results,
)


@dataclasses.dataclass(frozen=True)
class BoardResult:
    """The results of one board; after a failure, only those of the completed steps.

    Attributes:
        host: the board, as the user named it.
        benchmarks: result files of `bench`, one per engine.
        evaluations: result files of `eval`.
        diagnosis: result file of `doctor` on the board; None if missing.
        found: True if an earlier command started the run.
        problem: the error and its step; None on success.
    """

    host: str
    benchmarks: Tuple[Path, ...] = ()
    evaluations: Tuple[Path, ...] = ()
    diagnosis: Optional[Path] = None
    found: bool = False
    problem: Optional[AdqError] = None


def bench_remotely(
    hosts: Sequence[str],
    items: Sequence[Union[str, Path]] = (),
    *,
    device: Union[Device, str],
    precision: Union[Precision, str] = Precision.INT8,
    data: Optional[Union[str, Path]] = None,
    runtime: Optional[str] = None,
    threads: Optional[int] = None,
    quick: bool = False,
    scenarios: Optional[Sequence[Union[Scenario, str]]] = None,
    image: Optional[Union[str, Path]] = None,
    output: Optional[Union[str, Path]] = None,
    patience: float = PATIENCE_SECONDS,
    progress: bool = True,
    cuda_graph: bool = True,
) -> List[BoardResult]:
    """Measure engines on boards and fetch the result files.

    adq-edge and the missing files are sent to each board. The board builds the engines, evaluates them on the
    data, if given, and measures them. A run continues without a connection; the same call attaches to it
    again. Only `~/.cache/adq-edge` stays on the board. The connection uses the user's ssh configuration, or
    the command in ADQ_EDGE_SSH. In a terminal, ssh may ask for a password.

    Args:
        hosts: the boards, as destinations for `ssh`, such as user@board.
        items: bundles and engines; the newest bundle in `bundles/` by default. An engine that a board cannot
            run is built on the board with the same options.
        device: device of the engines on the boards.
        precision: number format of the engines that are built from bundles.
        data: dataset folder with labeled images.
        runtime: runtime of CPU engines.
        threads: number of CPU threads on the boards; all by default.
        quick: True for a short measurement whose results do not meet the publishing rules.
        scenarios: MLPerf scenarios to measure; all by default.
        image: an image file for the end-to-end latency.
        output: folder of the results, with one folder per board; `benchmarks/results/` by default.
        patience: longest time without a connection, in seconds.
        progress: True to show the progress, one row per board.
        cuda_graph: False to start each kernel of a GPU by itself, for comparison.

    Returns:
        One result per board, in the order of `hosts`; a failed board does not stop the others.

    Raises:
        AdqError: an argument or a local file is invalid; no board was contacted.
    """
    request = Request(
        choose(Device, device),
        None if data is None else Path(data),
        None if runtime is None else find_runtime(runtime),
        threads,
        quick,
        None if image is None else Path(image),
        tuple(choose(Scenario, scenario) for scenario in scenarios or ()),
        cuda_graph,
    )
    _check_hosts(hosts)
    if choose(Precision, precision) is Precision.BF16 and request.device is not Device.CPU:
        raise AdqError("bf16 engines are for CPUs", fix="Give --precision fp16, or --device cpu")
    if choose(Precision, precision) is Precision.FP8 and request.device is Device.CPU:
        raise AdqError("fp8 engines are for GPUs", fix="Give --precision int8, or --device jetson or cuda")
    if request.image is not None:
        read_image(request.image)  # a board would detect an invalid image only in its last step
    target = workspace.RESULTS if output is None else Path(output)
    for host in hosts:
        check_targets(target / _folder_name(host), ())
    specs = read_specs(items, request.device, choose(Precision, precision))
    for host in hosts:
        check_targets(target / _folder_name(host), result_names(_expected_engines(specs)))
    stop = threading.Event()
    with BoardsDisplay(hosts, shown=progress) as display:
        boards = [Board(host, display.reporter(host), stop, patience) for host in hosts]
        try:
            failed = _connect(boards, display)
            ready = [board for board in boards if board.host not in failed]
            finished = _run_all(ready, request, specs, target, stop, display)
            outcomes: Dict[str, BoardResult] = {**failed, **finished}
        finally:
            for board in boards:
                board.close()
    return [outcomes[host] for host in hosts]


def _check_hosts(hosts: Sequence[str]) -> None:
    folders = [_folder_name(host) for host in hosts]
    for number, (host, folder) in enumerate(zip(hosts, folders)):
        other = hosts[folders.index(folder)]
        if host in hosts[:number]:
            raise HostError("is named twice", where=host, fix="Name each board once")
        if host != other:
            what = f"its folder of results is also that of {other}: {folder}"
            fix = "Give it another name in your ssh configuration"
            raise HostError(what, where=host, fix=fix)


def _connect(boards: Sequence[Board], display: BoardsDisplay) -> Dict[str, BoardResult]:
    """Connect to the boards in turn if ssh may ask for passwords; return the failed boards."""
    failed = {}
    for board in boards:
        try:
            with display.hidden_for_questions() as interactive:
                if interactive:
                    board.connect(interactive=True)
        except AdqError as error:
            failed[board.host] = BoardResult(board.host, problem=error)
            display.finish(board.host, "failed")
    return failed


def _run_all(
    boards: Sequence[Board],
    request: Request,
    specs: Sequence[EngineSpec],
    output: Path,
    stop: threading.Event,
    display: BoardsDisplay,
) -> Dict[str, BoardResult]:
    """Run all boards at the same time; if the user ends the run, end the jobs on the boards first."""
    if not boards:
        return {}
    with ThreadPoolExecutor(max_workers=len(boards)) as pool:
        running: List[Tuple[Board, Future[BoardResult]]] = [
            (board, pool.submit(_run, board, request, specs, output, display)) for board in boards
        ]
        try:
            return {board.host: future.result() for board, future in running}
        finally:
            stop.set()  # stops boards that still run, after Ctrl-C or a bug


def _run(
    board: Board, request: Request, specs: Sequence[EngineSpec], output: Path, display: BoardsDisplay
) -> BoardResult:
    folder = output / _folder_name(board.host)
    try:
        result = _run_one(board, request, specs, folder)
    except AdqError as error:
        problem = error if error.where == board.host else _with_host(error, board.host)
        result = BoardResult(board.host, problem=problem)
    except StoppedError:
        raise
    except Exception as error:  # a fault of adq-edge must not end the runs of the other boards
        result = BoardResult(board.host, problem=_report_fault(error, board.host, folder))
    display.finish(board.host, "done" if result.problem is None else f"failed: {result.problem.what}")
    return result


def _run_one(board: Board, request: Request, specs: Sequence[EngineSpec], folder: Path) -> BoardResult:
    board.connect()
    board.show("check")
    info = board.read_info()
    job = make_job(request, specs, info.machine, adq_edge_command(info))
    key = install(board, info, extras_for(request, specs), folder / INSTALL_LOG)
    job = dataclasses.replace(job, installed=key)
    written = ResultFiles()

    def keep(result: JobResult) -> None:
        nonlocal written
        written = _keep(board.host, result, _expected_engines(specs), folder)

    result = run_job(board, job, RESULTS, keep)
    problem = written.problem
    if result.state != "done":
        problem = job_error(board.host, result, fix=f"Its output is in {folder / LOG}")
    elif problem is None and not written.benchmarks:
        problem = HostError("sent no result of bench", where=board.host, fix=f"Read {folder / LOG}")
    return BoardResult(
        board.host, written.benchmarks, written.evaluations, written.diagnosis, result.found, problem
    )


def _expected_engines(specs: Sequence[EngineSpec]) -> List[ExpectedEngine]:
    return [ExpectedEngine(spec.name, spec.model_sha256) for spec in specs]


def _keep(host: str, result: JobResult, engines: Sequence[ExpectedEngine], folder: Path) -> ResultFiles:
    """Write a job's log and result files, also after a failure."""
    try:
        write_log(folder / LOG, result.log)
        return write_results(host, result.files, engines, folder)
    except StorageError as error:
        fix = error.fix or "Choose another output folder"
        if result.files and result.state == "done":  # a failed job would be run again
            fix += "; the results are kept on the board: give the same command again"
        raise StorageError(error.what, where=error.where, fix=fix) from error


def _report_fault(error: Exception, host: str, folder: Path) -> HostError:
    """Write the traceback of an unexpected error to a file and return an error that names the file."""
    what = f"adq-edge failed unexpectedly ({type(error).__name__}: {error})"
    try:
        write_log(
            folder / FAULT_LOG, "".join(traceback.format_exception(type(error), error, error.__traceback__))
        )
    except StorageError as problem:
        return HostError(what, where=host, fix=f"Its traceback could not be written ({problem})")
    return HostError(what, where=host, fix=f"Report it with the file {folder / FAULT_LOG}")


def _with_host(error: AdqError, host: str) -> AdqError:
    """Return a local error with the affected board's name added."""
    place = host if error.where is None else f"{host}: {error.where}"
    return HostError(error.what, where=place, fix=error.fix)


def _folder_name(host: str) -> str:
    return re.sub(r"[^A-Za-z0-9@._-]", "_", host).lstrip(".") or "_"
