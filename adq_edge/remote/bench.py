"""`bench --host`: engines built, evaluated and measured on boards, several at once, results brought here."""

from __future__ import annotations

import dataclasses
import re
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple, Union

from adq_edge.artifacts import workspace
from adq_edge.artifacts.outputs import check_writable
from adq_edge.core.errors import AdqError, StorageError
from adq_edge.core.files import write_bytes
from adq_edge.core.imaging import read_image
from adq_edge.core.options import Device, Precision, Scenario, choose
from adq_edge.core.runtimes import find_runtime
from adq_edge.remote.bench_job import DIAGNOSIS, RESULTS, Request, extras_for, make_job
from adq_edge.remote.board import PATIENCE_SECONDS, Board
from adq_edge.remote.engine_specs import Recipe, read_specs
from adq_edge.remote.errors import HostError
from adq_edge.remote.installation import command_there, install
from adq_edge.remote.jobs import Ended, describe_failure, run_job
from adq_edge.remote.progress import BoardsDisplay

_LOG = "run.log"
_INSTALL_LOG = "install.log"


@dataclasses.dataclass(frozen=True)
class BoardResult:
    """What came of one board; where it failed, what the steps before had written.

    Attributes:
        host: the board, as the user named it.
        benchmarks: result files of `bench`, one per engine.
        evaluations: result files of `eval`.
        diagnosis: the file that `doctor` wrote there; None where it came to nothing.
        found: whether the run had been started before, by a command that did not see its end.
        problem: why it failed, and in which step; None where all is well.
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
) -> List[BoardResult]:
    """Measure engines on boards and bring the result files here.

    Each board is checked, gets adq-edge, and what it lacks of the files; it builds the engines for itself,
    evaluates them if there are data, and measures them. That goes on there if the connection is lost, and is
    picked up by the same call later. On the board only `~/.cache/adq-edge` stays. ssh is the system's, or
    what ADQ_EDGE_SSH says, as the user configured it; where there is a terminal it may ask for a password.

    Args:
        hosts: the boards, as `ssh` takes them.
        items: bundles and engines; the newest bundle in `bundles/` by default. An engine that a board cannot
            run is built there as it was here.
        device: where the engines run there.
        precision: number format of bundles' engines.
        data: labelled images in MVTec AD layout.
        runtime: what runs CPU engines.
        threads: CPU threads there; all by default.
        quick: a look; its results say that they are not to be quoted.
        scenarios: what to measure, by MLPerf's names; all of them by default.
        image: an encoded image for the end-to-end figures.
        output: folder of the results, one folder per board in it; `benchmarks/results/` by default.
        patience: seconds that a lost connection may stay away.
        progress: whether to show a row per board.

    Returns:
        One result per board, in their order; a board that failed does not stop the others.

    Raises:
        AdqError: something is wrong here, before any board is asked for anything.
    """
    request = Request(
        choose(Device, device),
        None if data is None else Path(data),
        None if runtime is None else find_runtime(runtime),
        threads,
        quick,
        None if image is None else Path(image),
        tuple(choose(Scenario, scenario) for scenario in scenarios or ()),
    )
    _check_hosts(hosts)
    if request.image is not None:
        read_image(request.image)  # a board would find out in its last step
    target = workspace.RESULTS if output is None else Path(output)
    for host in hosts:
        for name in (_LOG, _INSTALL_LOG):
            check_writable(target / _folder_name(host) / name)
    recipes = read_specs(items, request.device, choose(Precision, precision))
    stop = threading.Event()
    with BoardsDisplay(hosts, shown=progress) as display:
        boards = [Board(host, display.reporter(host), stop, patience) for host in hosts]
        try:
            failed = _connect(boards, display)
            ready = [board for board in boards if board.host not in failed]
            finished = _run_all(ready, request, recipes, target, stop, display)
            outcomes: Dict[str, BoardResult] = {**failed, **finished}
        finally:
            for board in boards:
                board.close()
    return [outcomes[host] for host in hosts]


def _check_hosts(hosts: Sequence[str]) -> None:
    folders = [_folder_name(host) for host in hosts]
    for host, folder in zip(hosts, folders):
        if folders.count(folder) > 1:
            raise HostError("named twice", where=host, fix="Name each board once")


def _connect(boards: Sequence[Board], display: BoardsDisplay) -> Dict[str, BoardResult]:
    """Connect to all boards; return those that failed. One after another where ssh may ask for a password."""
    failed = {}
    for board in boards:
        try:
            with display.hidden_for_questions() as interactive:
                board.connect(interactive=interactive)
        except AdqError as error:
            failed[board.host] = BoardResult(board.host, problem=error)
            display.finish(board.host, "failed")
    return failed


def _run_all(
    boards: Sequence[Board],
    request: Request,
    recipes: Sequence[Recipe],
    output: Path,
    stop: threading.Event,
    display: BoardsDisplay,
) -> Dict[str, BoardResult]:
    """Run all boards at once; where the user ends it, end what runs there before returning."""
    if not boards:
        return {}
    with ThreadPoolExecutor(max_workers=len(boards)) as pool:
        running: List[Tuple[Board, Future[BoardResult]]] = [
            (board, pool.submit(_run, board, request, recipes, output, display)) for board in boards
        ]
        try:
            return {board.host: future.result() for board, future in running}
        finally:
            stop.set()  # nothing to stop unless the user, or a bug, ended the waiting


def _run(
    board: Board, request: Request, recipes: Sequence[Recipe], output: Path, display: BoardsDisplay
) -> BoardResult:
    try:
        result = _run_one(board, request, recipes, output / _folder_name(board.host))
    except AdqError as error:
        display.finish(board.host, f"failed: {error.what}")
        named = error if error.where == board.host else _with_host(error, board.host)
        return BoardResult(board.host, problem=named)
    display.finish(board.host, "done" if result.problem is None else f"failed: {result.problem.what}")
    return result


def _run_one(board: Board, request: Request, recipes: Sequence[Recipe], folder: Path) -> BoardResult:
    board.show("check")
    facts = board.facts()
    job = make_job(request, recipes, facts.machine, command_there(facts))
    install(board, facts, extras_for(request, recipes), folder / _INSTALL_LOG)
    ended = run_job(board, job, RESULTS, lambda brought: _keep(brought, folder))
    problem = None
    if ended.state != "done":
        problem = describe_failure(board.host, ended, fix=f"What it wrote is in {folder / _LOG}")
    paths = [folder / name for name in _results(ended)]
    return BoardResult(
        board.host,
        tuple(path for path in paths if path.name.endswith(".bench.json")),
        tuple(path for path in paths if path.name.endswith(".eval.json")),
        next((path for path in paths if path.name == DIAGNOSIS), None),
        ended.found,
        problem,
    )


def _keep(brought: Ended, folder: Path) -> None:
    """Write a job's log, and what it came to: what is finished counts, whatever failed after it."""
    results = _results(brought)
    try:
        write_bytes(folder / _LOG, brought.log.encode("utf-8"))
        for name, content in results.items():
            write_bytes(folder / name, content)
    except StorageError as error:
        fix = error.fix or "Choose another output folder"
        if results and brought.state == "done":  # a run that failed is made anew
            fix += "; the results wait on the board: give the same command again"
        raise StorageError(error.what, where=error.where, fix=fix) from error


def _results(brought: Ended) -> Dict[str, bytes]:
    """Return a job's result files by name, without those that it was writing when it was killed."""
    files = {Path(name).name: content for name, content in brought.files.items()}
    return {name: content for name, content in files.items() if not name.startswith(".")}


def _with_host(error: AdqError, host: str) -> AdqError:
    """Return an error about something here, with the board whose work it stopped."""
    place = host if error.where is None else f"{host}: {error.where}"
    return HostError(error.what, where=place, fix=error.fix)


def _folder_name(host: str) -> str:
    return re.sub(r"[^A-Za-z0-9@._-]", "_", host).lstrip(".") or "_"
