"""`bench --host` from the command to the results, against a local sshd, with CPU engines."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import signal
import subprocess
import sys
import threading
import zipfile
from pathlib import Path
from typing import Callable, Iterator, List

import onnx
import pytest

from adq_edge.artifacts.bundle import Bundle
from adq_edge.artifacts.sidecar import sidecar_path
from adq_edge.benchmark.results import BenchmarkReport
from adq_edge.builders.build import build
from adq_edge.core.files import sha256
from adq_edge.core.options import Precision, Scenario
from adq_edge.evaluation.evaluate import Evaluation
from adq_edge.hardware.doctor import Diagnosis
from adq_edge.remote import installation, requirements
from adq_edge.remote.bench import BoardResult, bench_remotely
from adq_edge.remote.requirements import Platform, SourcePackage
from adq_edge.remote.wheel import write_wheel
from adq_edge.report.tables.remote import board_lines, board_tables
from factories.sshd import SshServer, command_for, run_sshd, wait_for
from factories.tiny_method import export_tiny
from factories.wheels import make_setuptools, make_source, make_wheel, pin_of

NEEDED = "adqneeded"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    with run_sshd(tmp_path_factory.mktemp("sshd") / "board") as running:
        yield running


@pytest.fixture(scope="module")
def other_server(tmp_path_factory: pytest.TempPathFactory, environment: Path) -> Iterator[SshServer]:
    with run_sshd(tmp_path_factory.mktemp("sshd") / "other", "other-board") as running:
        running.put_environment(environment)
        yield running


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory, dataset: Path) -> Bundle:
    return export_tiny(tmp_path_factory.mktemp("tiny"), "tiny", dataset)


@pytest.fixture(autouse=True)
def use_servers(
    server: SshServer, other_server: SshServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[None]:
    """Boards that contain only the cache folder after each test."""
    servers = (server, other_server)
    (tmp_path / "ssh").mkdir()
    monkeypatch.setenv("ADQ_EDGE_SSH", command_for(servers, tmp_path / "ssh"))
    monkeypatch.chdir(tmp_path)
    yield
    for each in servers:
        assert each.jobs() == []
        assert list(each.cache.glob("jobs/*")) == []
        assert [path for path in each.home.glob("*/*") if path != each.cache] == []
        assert {path.name for path in each.home.iterdir()} <= {".cache"}


def steps_there(server: SshServer) -> List[str]:
    steps = []
    for path in server.cache.glob("jobs/[!.]*/state.json"):
        with contextlib.suppress(FileNotFoundError):  # the job ends meanwhile
            steps.append(json.loads(path.read_text())["step"])
    return steps


def bench_command(item: Path, *options: str) -> List[str]:
    command = [sys.executable, "-m", "adq_edge", "bench", str(item), "--device", "cpu"]
    return [*command, "--quick", "--threads", "1", *options]


def test_ctrl_c_ends_the_run_on_the_board(server: SshServer, tiny: Bundle):
    local = subprocess.Popen(
        bench_command(tiny.path, "--host", "board"),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_for(lambda: "create a virtual environment" in steps_there(server), "installation")
    os.killpg(local.pid, signal.SIGINT)
    _, errors = local.communicate(timeout=60)
    assert local.returncode == 130
    assert "board: end the run there" in errors
    assert errors.endswith("the same command starts from the beginning\n")


@pytest.fixture
def board_without_internet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make adq-edge need a package that only this machine can download, from a folder.

    The package has no wheel, like pycuda: the board must build it, with build tools that it lacks.
    """
    here = Platform((sys.version_info[0], sys.version_info[1]), "", 0)
    make_source(tmp_path / "index", NEEDED, "1.0")
    monkeypatch.setitem(requirements._FROM_SOURCE, NEEDED, SourcePackage(("setuptools",)))
    make_setuptools(tmp_path / "index", pin_of("setuptools", here))
    make_wheel(tmp_path / "index", "pip", pin_of("pip", here))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_COMPILE", "0")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    monkeypatch.setattr(installation, "_CACHE", tmp_path / "wheels")
    monkeypatch.setattr(installation, "device_requirements", lambda platform, extras: (NEEDED,))


@pytest.mark.usefixtures("board_without_internet")
def test_run_on_two_boards_with_lost_connections_and_a_full_disk_here(
    server: SshServer,
    other_server: SshServer,
    tiny: Bundle,
    dataset: Path,
    tmp_path: Path,
    full_disk: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
):
    """The connection of one board breaks in each step; others are off, or have adq-edge; the disk is full."""
    install_before(other_server, tmp_path / "own")
    engine = build(tiny.path, tmp_path / "as-it-is.onnx", precision=Precision.FP32).path
    both_running, done = threading.Event(), threading.Event()
    steps = [
        "create a virtual environment",
        "examine the board",
        "build tiny-int8",
        "evaluate as-it-is",
        "bench",
    ]
    seen = []

    def cut_in_each_step() -> None:
        for step in steps:
            while step not in steps_there(server):
                if not both_running.is_set() and steps_there(server) and steps_there(other_server):
                    both_running.set()
                    full_disk()  # the files to send have been written
                if done.wait(0.02):
                    return
            server.cut()
            seen.append(step)

    def run() -> List[BoardResult]:
        return bench_remotely(
            ["board", "nowhere.invalid", "other-board"],
            [tiny.path, engine],
            device="cpu",
            data=dataset,
            quick=True,
            threads=1,
            scenarios=[Scenario.SINGLE_STREAM],
            output="results",
        )

    cutter = threading.Thread(target=cut_in_each_step)
    cutter.start()
    with monkeypatch.context() as room:
        room.setattr(os, "fsync", os.fsync)
        try:
            full, off, other_full = run()
        finally:
            done.set()
            cutter.join()
    assert seen == steps, "not cut in each step"
    assert both_running.is_set(), "the boards did not run at the same time"
    assert str(off.problem).startswith("nowhere.invalid: there is no host of this name")
    assert list(board_lines(off)) == board_tables(off) == []
    for result in (full, other_full):
        assert str(result.problem) == (
            f"{result.host}: results/{result.host}/run.log: no space left on device. Free some space or "
            "choose another output folder; the results are kept on the board: give the same command again."
        )
    first, _, second = run()
    for result, board in ((first, server), (second, other_server)):
        assert (result.problem, result.found) == (None, True), "measured again"
        check_results(result, tiny)
        installed = list((board.cache / "env").glob(f"lib/*/site-packages/{NEEDED}-1.0.dist-info"))
        assert bool(installed) is (board is server), "installed where it was"


def install_before(board: SshServer, folder: Path) -> None:
    """Put adq-edge on a board with an environment, as a run with `board_without_internet` leaves it."""
    folder.mkdir()
    wheel = write_wheel(folder)
    (packages,) = (board.cache / "env").glob("lib/python*/site-packages")
    with zipfile.ZipFile(str(wheel)) as archive:
        archive.extractall(str(packages))
    key = installation.installation_key(platform.python_version(), (NEEDED,), wheel)
    (board.cache / "installed.json").write_text(json.dumps({"key": key}))


def check_results(result: BoardResult, tiny: Bundle) -> None:
    reports = {
        BenchmarkReport.read(path).engines[0].precision: BenchmarkReport.read(path)
        for path in result.benchmarks
    }
    assert set(reports) == {"int8", "fp32"}
    assert len({report.run for report in reports.values()}) == 1, "the engines were not measured in one run"
    assert all(report.quick for report in reports.values())
    qualities = {quality.precision: quality for quality in map(Evaluation.read, result.evaluations)}
    for precision, report in reports.items():
        assert qualities[precision].engine.sha256 == report.engines[0].engine.sha256, (
            "another engine was evaluated"
        )
        assert report.engines[0].model_sha256 == tiny.manifest.model_sha256
    assert len(qualities["int8"].scores) == 12
    folder = Path("results") / result.host
    assert {path.parent for path in result.benchmarks} == {folder}
    assert len(board_tables(result)) >= 4
    assert f"{result.host}: results in {folder}" in list(board_lines(result))


@pytest.fixture
def unknown_engine(tiny: Bundle, tmp_path: Path) -> Path:
    """An engine with an operator that ONNX Runtime does not have."""
    engine = build(tiny.path, tmp_path / "unknown.onnx", precision=Precision.FP32).path
    model = onnx.load(str(engine))
    next(node for node in model.graph.node if node.op_type == "Conv").op_type = "ConvOfTomorrow"
    onnx.save(model, str(engine))
    sidecar = json.loads(sidecar_path(engine).read_text())
    sidecar_path(engine).write_text(json.dumps({**sidecar, "engine_sha256": sha256(engine)}))
    return engine


def test_command_line_reports_the_engine_s_error_and_the_host(
    server: SshServer, unknown_engine: Path, tmp_path: Path
):
    """The dependencies of adq-edge are installed on the board."""
    hosts = ("--host", "board", "--host", "nowhere.invalid")
    done = subprocess.run(bench_command(unknown_engine, *hosts), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if line.startswith("adq-edge: ")]
    assert len(lines) == 2
    assert re.match(
        r"adq-edge: board: step 'bench' failed there: engines/unknown\.onnx: .*ConvOfTomorrow", lines[0]
    )
    assert lines[1].startswith("adq-edge: nowhere.invalid: there is no host of this name")
    assert (tmp_path / "benchmarks" / "results" / "board" / "run.log").is_file()


def test_failed_step_keeps_the_results_of_earlier_steps(
    server: SshServer, tiny: Bundle, unknown_engine: Path, dataset: Path
):
    options = {"precision": "fp32", "data": dataset, "threads": 1, "quick": True, "output": "results"}
    (result,) = bench_remotely(["board"], [tiny.path, unknown_engine], device="cpu", **options)
    folder = Path("results/board")
    assert str(result.problem).startswith("board: step 'evaluate unknown' failed there: engines/unknown.onnx")
    assert (result.benchmarks, result.diagnosis) == ((), folder / "doctor.json")
    assert result.evaluations == (folder / "tiny-fp32.eval.json",)
    assert len(Evaluation.read(result.evaluations[0]).scores) == 12
    assert len(board_tables(result)) == 1
    lines = list(board_lines(result))
    assert Diagnosis.read(folder / "doctor.json").inventory.environment.python in lines[0]
    assert lines[1:] == ["board: results of the steps before it failed in results/board"]
