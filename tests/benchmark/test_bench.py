from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Dict, Iterator, List, Tuple

import numpy as np
import pytest
from rich.console import Console

from adq_edge.artifacts import workspace
from adq_edge.artifacts.bundle import FileReference
from adq_edge.artifacts.sidecar import read_sidecar
from adq_edge.benchmark import schedule
from adq_edge.benchmark.bench import bench
from adq_edge.benchmark.measurements import ImageDurations, WarmUpResult
from adq_edge.benchmark.quotable import QUOTABLE_OFFLINE_SECONDS, find_caveat, find_flags
from adq_edge.benchmark.records import OfflineEnd
from adq_edge.benchmark.results import BenchmarkReport, Interference
from adq_edge.benchmark.sample_image import open_sample_image
from adq_edge.benchmark.schedule import Plan, make_plan, run_single_stream
from adq_edge.benchmark.worker_process import EngineWorker, start_engine_worker
from adq_edge.core import console as core_console
from adq_edge.core.errors import (
    AdqError,
    DataError,
    EngineError,
    ResultError,
    StorageError,
)
from adq_edge.core.files import sha256
from adq_edge.core.images.imaging import decode_image, write_image
from adq_edge.core.options import Scenario
from adq_edge.report.tables.bench import bench_tables
from factories.tiny_engine import SIZE, write_engine

BIG_MB = 80

needs_proc = pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs /proc")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_engine(tmp_path_factory.mktemp("engines") / "tiny.onnx")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Tuple[BenchmarkReport, Path]:
    """One run of three engines, of which the last has the name of the first."""
    folder = tmp_path_factory.mktemp("run")
    big = write_engine(folder / "big.onnx", weights_mb=BIG_MB)
    twin = write_engine(folder / "twin" / "tiny.onnx")
    report = bench(
        [tiny, big, twin],
        queries=40,
        seconds=0.1,
        batches=(1, 3),
        threads=1,
        output=folder / "results",
        progress=False,
    )
    return report, folder / "results"


# --- schedule --------------------------------------------------------------------------------------------


class FakeEngine:
    """An engine with a constant duration of `ms` per query, which logs its calls."""

    def __init__(self, name: str, ms: float, log: List[str]) -> None:
        self.name, self.ms, self.log = name, ms, log

    def run_queries(self, count: int) -> np.ndarray:
        self.log.append(self.name)
        return np.full(count, self.ms * 1e6)

    def run_images(self, count: int) -> ImageDurations:
        assert count >= 1
        return ImageDurations(*(np.full(count, stage) for stage in (4e6, 1e6, 10e6, 1e6)))


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> List[float]:
    taken: List[float] = []
    monkeypatch.setattr(schedule.time, "sleep", taken.append)
    return taken


def warm_up(ms: float) -> WarmUpResult:
    return WarmUpResult(5, 0.1, True, ms * 1e6, (ms + 15) * 1e6, harness_us=1.0, arena_mb=1.0)


def plan(queries: int, seconds: float) -> Plan:
    return Plan(queries, seconds, 0.1, offline_seconds=1.0, offline_turns=2, max_batch=8)


def test_single_stream_runs_engines_in_strict_turns(pauses: List[float]):
    log: List[str] = []
    engines = [FakeEngine("a", 10, log), FakeEngine("b", 100, log), FakeEngine("c", 1, log)]
    windows: List[int] = []

    @contextlib.contextmanager
    def window(position: int, queries: bool) -> Iterator[None]:
        before = len(log)
        yield
        assert log[before:] == ([engines[position].name] if queries else [])
        windows.append(position)

    warm_ups = [warm_up(engine.ms) for engine in engines]
    rounds = run_single_stream(engines, warm_ups, plan(100, 5.0), window, lambda: None)
    expected = plan(100, 5.0).rounds
    assert log == ["a", "b", "c"] * expected
    assert windows == [0, 0, 1, 1, 2, 2] * expected  # queries, then images
    assert len(pauses) == len(log)
    for engine, own in zip(engines, rounds):
        queries = sum(one.queries_ns.size for one in own)
        assert len(own) == expected
        assert queries >= 100
        assert queries * engine.ms >= 5000
        assert queries <= max(100, 5000 / engine.ms) + expected  # without unnecessary queries


def test_single_stream_adds_rounds_after_a_slow_warm_up(pauses: List[float]):
    log: List[str] = []
    rounds = run_single_stream(
        [FakeEngine("a", 1, log)],
        [warm_up(100)],
        plan(10, 6.0),
        lambda *_: contextlib.nullcontext(),
        lambda: None,
    )
    assert sum(int(one.queries_ns.sum()) for one in rounds[0]) >= 6e9
    assert not pauses  # a single engine needs no pause


def test_plan_of_a_full_and_of_a_quick_run():
    full = make_plan(1024, 60.0, quick=False)
    assert (full.queries, full.seconds) == (1024, 60.0)
    assert full.rounds == 64
    assert full.per_round(warm_up(10.0)) == (94, 10)  # 60 s of queries, 15 s of images
    assert full.per_round(warm_up(300.0)) == (16, 4)  # 1024 queries, 256 images
    assert full.per_round(warm_up(0.01))[1] * full.rounds * 0.015 < 20.0
    quick = make_plan(1024, 60.0, quick=True)
    assert quick.seconds + quick.warm_up_limit_seconds + 6 * quick.offline_seconds < 3.0


# --- whole runs ------------------------------------------------------------------------------------------


def test_report_has_all_measurements(run, tiny: Path):
    report, _ = run
    assert [engine.name for engine in report.engines] == ["tiny", "big", "tiny-2"]
    assert not report.quick
    for engine in report.engines:
        stream, stages = engine.single_stream, engine.end_to_end
        assert stream.latency.count >= 40
        assert stream.timed_seconds >= 0.1
        assert (
            stream.latency.min_ms <= stream.latency.p50_ms <= stream.latency.p99_ms <= stream.latency.max_ms
        )
        assert stream.warm_up_queries >= 5
        assert len(stream.round_p50_ms) == stream.rounds
        assert 0 < stream.harness_us < 1e3 * stream.latency.p50_ms
        assert [(throughput.batch, throughput.streams) for throughput in engine.offline] == [(1, 1), (3, 1)]
        assert engine.offline_end is OfflineEnd.NAMED
        best = engine.best_offline
        assert best is not None
        assert best.images_per_second == max(t.images_per_second for t in engine.offline)
        assert (stages.host_to_device, stages.device_to_host) == (None, None)
        parts = (stages.decode, stages.preprocess, stages.inference, stages.postprocess)
        assert stages.total.mean_ms == pytest.approx(sum(part.mean_ms for part in parts))
        assert stages.decode.p50_ms > stages.postprocess.p50_ms
        assert engine.load_ms > 0
        assert engine.layers == read_sidecar(tiny).operators
        assert engine.runtime == "onnxruntime"
        assert engine.image_size == (SIZE, SIZE)
    assert report.engines[0].engine == FileReference(str(tiny), sha256(tiny))
    assert report.engines[1].engine_mb == pytest.approx(BIG_MB, rel=0.01)


def test_other_engines_are_compared_with_the_first(run):
    first, big, twin = run[0].engines
    assert first.comparison is None
    for engine in (big, twin):
        assert engine.comparison is not None
        assert engine.comparison.baseline == "tiny"
        assert engine.comparison.rounds == engine.single_stream.rounds == first.single_stream.rounds
        assert engine.comparison.latency_ratio > 0


@needs_proc
def test_memory_is_measured_per_engine(run):
    small, big, twin = (engine.memory for engine in run[0].engines)
    assert big.peak_rss_mb > max(small.peak_rss_mb, twin.peak_rss_mb) + 0.8 * BIG_MB
    assert big.model_mb > 0.8 * BIG_MB > small.model_mb > 0
    assert 0 <= big.arena_mb < 0.2 * BIG_MB
    assert big.device_mb is None
    assert big.rss_before_load_mb == pytest.approx(small.rss_before_load_mb, rel=0.1)
    for memory in (small, big, twin):
        assert memory.rss_before_load_mb < memory.peak_rss_batch_1_mb <= memory.peak_rss_mb


@needs_proc
def test_peak_memory_excludes_the_parent_process(tiny: Path, run):
    ballast = np.ones(20_000_000)
    with open_sample_image(None) as image, start_engine_worker(tiny) as worker:
        worker.load(None, None, image.path)
        assert worker.peak_mb() < run[0].engines[0].memory.peak_rss_mb + ballast.nbytes / 2e6


def test_each_engine_has_a_result_file_that_reads_back_unchanged(run):
    report, folder = run
    assert sorted(path.name for path in folder.iterdir()) == [
        *("big.bench.json", "tiny-2.bench.json", "tiny.bench.json")
    ]
    for engine in report.engines:
        again = BenchmarkReport.read(folder / f"{engine.name}.bench.json")
        assert again == dataclasses.replace(report, engines=(engine,))
        assert again.run == report.run


def test_field_names_of_numbers_end_in_a_unit(run):
    document = json.loads((run[1] / "tiny.bench.json").read_text())
    assert (document["schema"], document["version"], document["quick"]) == ("adq-edge/bench", 3, False)
    units = ("_ms", "_us", "_mb", "_seconds", "_percent", "images_per_second", "seconds")
    plain = ("latency_ratio", "cpu_quota", "low", "high")

    def floats(value, name=""):
        if isinstance(value, dict):
            for key, item in value.items():
                yield from floats(item, key)
        elif isinstance(value, list):
            for item in value:
                yield from floats(item, name)
        elif isinstance(value, float):
            yield name

    found = set(floats(document))
    assert "p90_ms" in found
    assert [name for name in found if not name.endswith(units) and not name.startswith(plain)] == []


def test_unknown_format_version_is_reported_in_one_line(run, tmp_path: Path):
    document = json.loads((run[1] / "tiny.bench.json").read_text())
    document["version"] = 1
    path = tmp_path / "old.bench.json"
    path.write_text(json.dumps(document))
    with pytest.raises(ResultError) as caught:
        BenchmarkReport.read(path)
    assert str(caught.value) == (
        f"{path}: format version is 1, this release reads version 3. "
        "Measure the engine again: adq-edge bench ENGINE."
    )


def test_damaged_result_file_is_rejected(run, tmp_path: Path):
    document = json.loads((run[1] / "tiny.bench.json").read_text())
    document["engines"][0]["load_ms"] = "fast"
    path = tmp_path / "damaged.json"
    path.write_text(json.dumps(document))
    with pytest.raises(ResultError, match="not a valid adq-edge/bench file"):
        BenchmarkReport.read(path)


def test_quick_run_with_defaults_writes_to_the_default_folder(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    write_engine(tmp_path / workspace.ENGINES / "newest.onnx")
    report = bench(quick=True)
    path = tmp_path / workspace.RESULTS / "newest.quick.bench.json"
    assert json.loads(path.read_text())["quick"] is True
    assert BenchmarkReport.read(path).quick
    assert find_caveat(report) == find_caveat(BenchmarkReport.read(path))
    assert "quick run, not to be quoted" in str(find_caveat(report))
    loads = [(throughput.batch, throughput.streams) for throughput in report.engines[0].offline]
    assert loads[:2] == [(1, 1), (2, 1)]
    assert max(batch for batch, _ in loads) <= 8
    assert capfd.readouterr().out == ""


def test_progress_bar_draws_only_when_advanced(monkeypatch: pytest.MonkeyPatch):
    drawn = io.StringIO()
    monkeypatch.setattr(core_console, "console", Console(file=drawn, force_terminal=True, width=80))
    with core_console.progress_bar(
        "Benchmarking tiny.onnx (quick)", 2, "turns", auto_refresh=False
    ) as advance:
        before = drawn.getvalue()
        time.sleep(0.3)
        assert drawn.getvalue() == before
        advance()
        assert drawn.getvalue() != before
    assert "Benchmarking tiny.onnx (quick)" in drawn.getvalue()


def test_bench_accepts_strings_for_paths_and_options(tiny: Path, tmp_path: Path):
    path = tmp_path / "new" / "result.json"
    image = tmp_path / "image.png"
    write_image(image, np.zeros((48, 40, 3), np.uint8))
    report = bench(
        str(tiny),
        device="cpu",
        runtime="onnxruntime",
        queries=5,
        seconds=0.0,
        scenarios=["single-stream"],
        image=str(image),
        output=str(path),
        progress=False,
    )
    assert BenchmarkReport.read(path) == report
    assert report.engines[0].offline == ()
    assert report.engines[0].best_offline is None
    assert (report.settings.image, report.settings.image_pixels) == (str(image), (48, 40))


def test_caveat_is_none_only_for_quotable_runs(run):
    report = run[0]
    assert "1024 queries" in str(find_caveat(report))
    engine = report.engines[0]
    stream = dataclasses.replace(
        engine.single_stream,
        steady=True,
        timed_seconds=60.0,
        latency=dataclasses.replace(engine.single_stream.latency, count=1024),
    )
    offline = tuple(dataclasses.replace(load, timed_seconds=7.5) for load in engine.offline)
    engine = dataclasses.replace(engine, single_stream=stream, offline=offline)
    quiet = Interference(True, (), 0.1, 0.0, 0.5, None)
    long = dataclasses.replace(report, engines=(engine,), interference=quiet)
    assert find_caveat(long) is None
    assert find_caveat(dataclasses.replace(long, quick=True)) == "quick run, not to be quoted"
    noise = dataclasses.replace(quiet, is_quiet=False, reasons=("other processes took 31 % of the CPU",))
    noisy = dataclasses.replace(long, interference=noise)
    assert find_caveat(noisy) == "interference: other processes took 31 % of the CPU"
    cold = dataclasses.replace(engine, single_stream=dataclasses.replace(stream, steady=False))
    assert "tiny: no steady state" in str(find_caveat(dataclasses.replace(long, engines=(cold,))))


def test_offline_alone_has_no_latency(tiny: Path, tmp_path: Path):
    report = bench(
        [tiny, tiny], scenarios=[Scenario.OFFLINE], seconds=0.1, threads=1, output=tmp_path, progress=False
    )
    for engine in report.engines:
        assert (engine.single_stream, engine.end_to_end, engine.comparison) == (None, None, None)
        assert engine.best_offline in engine.offline
    assert report.interference.drift_percent == 0.0
    assert BenchmarkReport.read(tmp_path / "tiny.bench.json").engines == report.engines[:1]
    titles = [str(table.title) for table in bench_tables(report)]
    assert [title.split()[0] for title in titles] == ["Offline", "Size"]
    assert "less than 7.5 s of Offline at a batch size, not to be quoted" in str(find_caveat(report))
    assert [flag.word for flag in find_flags(report, report.engines[0])][:1] == ["short run"]


def test_offline_alone_is_quotable_after_a_full_run(tiny: Path, tmp_path: Path):
    assert make_plan(1024, 60.0, quick=False).offline_seconds == QUOTABLE_OFFLINE_SECONDS
    path = tmp_path / "tiny.bench.json"
    report = bench(tiny, scenarios=[Scenario.OFFLINE], seconds=0.1, batches=(1,), output=path, progress=False)
    (engine,) = report.engines
    assert engine.offline_warm_up is not None
    assert engine.offline_warm_up.queries >= 5
    loads = tuple(dataclasses.replace(load, timed_seconds=7.5) for load in engine.offline)
    warm = dataclasses.replace(engine.offline_warm_up, steady=True)
    engine = dataclasses.replace(engine, offline=loads, offline_warm_up=warm)
    quiet = Interference(True, (), 0.1, 0.0, 0.0, None)
    report = dataclasses.replace(report, engines=(engine,), interference=quiet)
    assert find_caveat(report) is None
    cold = dataclasses.replace(engine, offline_warm_up=dataclasses.replace(warm, steady=False))
    assert "tiny: no steady state" in str(find_caveat(dataclasses.replace(report, engines=(cold,))))
    report.write(path)
    document = json.loads(path.read_text())
    del document["engines"][0]["offline_warm_up"]  # as in files of earlier releases
    path.write_text(json.dumps(document))
    assert find_caveat(BenchmarkReport.read(path)) == "tiny: its warm-up is not known"


def test_synthetic_image_is_reproducible_and_has_contrast():
    contents = []
    for _ in range(2):
        with open_sample_image(None) as sample:
            contents.append(sample.path.read_bytes())
    assert contents[0] == contents[1]
    image = decode_image(contents[0])
    assert image.shape == (1024, 1024, 3) == (*sample.pixels, 3)
    assert image.std() > 20
    assert not sample.path.exists()


# --- failures -------------------------------------------------------------------------------------


def test_errors_of_loading_are_raised_by_bench(tiny: Path, tmp_path: Path):
    changed = write_engine(tmp_path / "changed.onnx")
    changed.write_bytes(b"no longer")
    with pytest.raises(EngineError) as caught:
        bench([tiny, changed], quick=True, output=tmp_path, progress=False)
    expected = "not the file that changed.onnx.json describes (truncated or changed)"
    assert caught.value.what == expected
    assert caught.value.where == str(changed)
    assert not list(tmp_path.glob("*.bench.json"))


def test_runtime_error_of_an_engine_is_one_line(tmp_path: Path):
    pair = write_engine(tmp_path / "pair.onnx", batch=2)  # does not accept single images
    with pytest.raises(
        EngineError, match=r"pair\.onnx: cannot run it \(\[ONNXRuntimeError\] : 2 : INVALID_ARGUMENT"
    ) as caught:
        bench([pair], queries=5, seconds=0.05, batches=(2,), output=tmp_path, progress=False)
    assert "\n" not in str(caught.value)


def test_killed_worker_is_reported(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pids = []

    def die(worker: EngineWorker, seconds: float, limit_seconds: float) -> WarmUpResult:
        pids.append(worker.pid)
        os.kill(worker.pid, signal.SIGKILL)
        return original(worker, seconds, limit_seconds)

    original = EngineWorker.warm_up
    monkeypatch.setattr(EngineWorker, "warm_up", die)
    with pytest.raises(EngineError, match=r"tiny\.onnx: its process was ended by SIGKILL.*memory"):
        bench([tiny], quick=True, output=tmp_path, progress=False)
    assert not is_alive(pids[0])


def test_bench_rejects_a_file_that_is_not_an_image(tiny: Path, tmp_path: Path):
    image = tmp_path / "image.png"
    image.write_bytes(b"not an image")
    with pytest.raises(DataError, match=r"image\.png"):
        bench([tiny], image=image, output=tmp_path, progress=False)


@pytest.mark.parametrize("output", ["file.txt", "file.txt/results", "folder.json"])
def test_unwritable_output_is_refused_before_the_measurement(
    tiny: Path, tmp_path: Path, output: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("adq_edge.benchmark.bench.measure", None)
    (tmp_path / "file.txt").write_text("text")
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(StorageError, match=r"is a file, not a folder|is a folder, not a file"):
        bench([tiny], output=tmp_path / output, progress=False)


def test_one_output_file_for_several_engines_is_refused(tiny: Path, tmp_path: Path):
    with pytest.raises(ResultError, match="Name a folder"):
        bench([tiny, tiny], output=tmp_path / "one.json", progress=False)


@pytest.mark.parametrize("amounts", [{"queries": 0}, {"seconds": -1.0}, {"batches": ()}, {"batches": (0,)}])
def test_bench_rejects_empty_amounts(tiny: Path, amounts):
    with pytest.raises(AdqError, match="nothing to measure"):
        bench([tiny], progress=False, **amounts)


# --- Ctrl-C ----------------------------------------------------------------------------------------------


def is_alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.is_file() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def children(pid: int) -> List[int]:
    parents: Dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # ended since
    return [child for child, parent in parents.items() if parent == pid]


def wait_for(condition, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@needs_proc
@pytest.mark.parametrize("interrupt", [os.killpg, os.kill], ids=["terminal", "parent only"])
def test_ctrl_c_ends_the_workers_and_writes_no_file(tiny: Path, tmp_path: Path, interrupt):
    code = (
        "import sys; from pathlib import Path; from adq_edge.benchmark.bench import bench;"
        "bench([Path(sys.argv[1])] * 2, seconds=4, output=Path(sys.argv[2]))"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(tiny), str(tmp_path)],
        stderr=subprocess.PIPE,
        start_new_session=True,
        # A background job of a shell ignores SIGINT, and its children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert wait_for(lambda: len(children(parent.pid)) == 2, 30)
    workers = children(parent.pid)
    time.sleep(0.5)
    interrupt(parent.pid, signal.SIGINT)
    assert b"KeyboardInterrupt" in parent.communicate(timeout=5)[1]
    assert parent.returncode == -signal.SIGINT
    assert wait_for(lambda: not any(map(is_alive, workers)), 1)
    assert list(tmp_path.iterdir()) == []


@needs_proc
def test_workers_end_with_a_killed_parent(tiny: Path, tmp_path: Path):
    code = (
        "import sys; from pathlib import Path; from adq_edge.benchmark.bench import bench;"
        "bench([Path(sys.argv[1])], seconds=600, output=Path(sys.argv[2]), progress=False)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(tiny), str(tmp_path)])
    assert wait_for(lambda: bool(children(parent.pid)), 30)
    workers = children(parent.pid)
    parent.kill()
    parent.wait()
    assert wait_for(lambda: not any(map(is_alive, workers)), 15)
