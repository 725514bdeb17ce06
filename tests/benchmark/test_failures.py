"""Failures during and after a measurement keep the other results."""

from __future__ import annotations

import dataclasses
import os
import signal
from pathlib import Path
from typing import Callable

import numpy as np
import pytest
from typer.testing import CliRunner

from adq_edge.benchmark.bench import UnsavedReportError, bench
from adq_edge.benchmark.measurements import Batches
from adq_edge.benchmark.records import OfflineEnd
from adq_edge.benchmark.results import BenchmarkReport
from adq_edge.benchmark.worker_process import EngineWorker
from adq_edge.cli import app
from adq_edge.core.errors import AdqError, EngineError
from adq_edge.core.images.imaging import write_image
from adq_edge.report.load import load_results
from adq_edge.report.merge import merge
from adq_edge.report.render.terminal import print_tables
from adq_edge.report.report import report as report_page
from adq_edge.report.tables.bench import bench_tables, throughput_table
from factories import results as make
from factories.tiny_engine import write_engine


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_engine(tmp_path_factory.mktemp("engines") / "tiny.onnx")


@pytest.fixture(scope="module")
def fixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An engine that accepts single images only, which its sidecar does not state."""
    return write_engine(tmp_path_factory.mktemp("fixed") / "fixed.onnx", batch=1)


def test_failing_batch_ends_offline_of_its_engine_only(
    tiny: Path, fixed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    report = bench(
        [fixed, tiny],
        queries=10,
        seconds=0.1,
        batches=(1, 2, 4),
        threads=1,
        output=tmp_path,
        progress=False,
    )
    failed, other = report.engines
    assert [load.batch for load in failed.offline] == [1]
    assert failed.offline_end is OfflineEnd.FAILED
    assert failed.offline_failure is not None
    assert failed.offline_failure.startswith("at batch 2, 1 stream: cannot run it ([ONNXRuntimeError]")
    assert failed.single_stream is not None
    assert [load.batch for load in other.offline] == [1, 2, 4]
    assert (other.offline_end, other.offline_failure) == (OfflineEnd.NAMED, None)
    assert other.comparison is not None
    assert BenchmarkReport.read(tmp_path / "fixed.bench.json").engines == (failed,)
    for table in bench_tables(report):
        print_tables([table])
    text = " ".join(capsys.readouterr().out.split())
    assert "best before it failed at batch 2, 1 stream: cannot run it" in text


def test_worker_killed_by_a_large_batch_keeps_smaller_batches(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run_batches = EngineWorker.run_batches

    def die_of_4(worker: EngineWorker, batch: int, streams: int, seconds: float) -> Batches:
        if batch == 4 and worker.engine == doomed:
            os.kill(worker.pid, signal.SIGKILL)  # as the kernel does without free memory
        return run_batches(worker, batch, streams, seconds)

    doomed = write_engine(tmp_path / "doomed.onnx")
    monkeypatch.setattr(EngineWorker, "run_batches", die_of_4)
    report = bench(
        [doomed, tiny], queries=10, seconds=0.1, batches=(1, 2, 4, 8), output=tmp_path, progress=False
    )
    dead, alive = report.engines
    assert [load.batch for load in dead.offline] == [1, 2]
    assert dead.offline_failure == "at batch 4, 1 stream: its process was ended by SIGKILL"
    assert {load.batch for load in alive.offline} == {1, 2, 4, 8}
    assert alive.offline_end is OfflineEnd.NAMED
    assert dead.memory.peak_rss_mb >= dead.memory.peak_rss_batch_1_mb > 0


def test_too_large_named_batch_is_refused_before_the_timing(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    load = EngineWorker.load
    monkeypatch.setattr(EngineWorker, "load", lambda *given: dataclasses.replace(load(*given), max_batch=4))
    with pytest.raises(AdqError, match=r"tiny\.onnx: takes at most 4 images at once, not 8"):
        bench(tiny, batches=(1, 8), output=tmp_path, progress=False)
    alone = bench(
        tiny, scenarios=["single-stream"], quick=True, batches=(8,), output=tmp_path, progress=False
    )
    assert alone.engines[0].single_stream is not None


def test_offline_failing_at_its_first_batch_keeps_the_other_engines(
    tiny: Path, fixed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(EngineError, match="cannot run it"):  # no other result
        bench(fixed, scenarios=["offline"], seconds=0.1, batches=(2,), output=tmp_path, progress=False)
    report = bench(
        [fixed, tiny], scenarios=["offline"], seconds=0.1, batches=(2,), output=tmp_path, progress=False
    )
    assert [bool(engine.offline) for engine in report.engines] == [False, True]
    for table in bench_tables(report):
        print_tables([table])
    assert "failed at batch 2, 1 stream: cannot run it" in " ".join(capsys.readouterr().out.split())
    assert BenchmarkReport.read(tmp_path / "fixed.bench.json").engines == report.engines[:1]


def test_full_disk_at_the_end_still_shows_the_results(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full_disk: Callable[[], None]
):
    monkeypatch.chdir(tmp_path)
    image = tmp_path / "image.png"
    write_image(image, np.zeros((48, 40, 3), np.uint8))
    full_disk()
    done = CliRunner().invoke(app, ["bench", str(tiny), "--quick", "--image", str(image)])
    assert done.exit_code == 2
    assert "SingleStream latency (batch 1, 1 stream)" in done.output
    assert "Size and memory" in done.output
    assert "adq-edge: " in done.output.splitlines()[-1]
    assert "no space left on device" in done.output.splitlines()[-1]
    assert "result:" not in done.output
    with pytest.raises(UnsavedReportError) as caught:
        bench(tiny, quick=True, scenarios=["single-stream"], image=image, output=tmp_path, progress=False)
    assert caught.value.report.engines[0].single_stream is not None
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [image]


def test_report_shows_where_offline_failed(tmp_path: Path):
    broke = {
        "offline_end": OfflineEnd.FAILED,
        "offline_failure": "at batch 8, 2 streams: its process was ended by SIGKILL",
    }
    part = dataclasses.replace(make.engine("fp32"), **broke)
    none = dataclasses.replace(make.engine("int8"), offline=(), **broke)
    make.write(tmp_path, make.bench_report([part, none]), evaluated=False)
    (device,) = merge(load_results([tmp_path]))
    rows = [(row[0], row[5], row[-1]) for row in throughput_table(device.entries).rows]
    notes = [(name, note) for name, _, note in rows if note]
    assert notes == [
        (part.name, "best before it failed at batch 8, 2 streams: its process was ended by SIGKILL"),
        (none.name, "failed at batch 8, 2 streams: its process was ended by SIGKILL"),
    ]
    assert [throughput for name, throughput, _ in rows if name == none.name] == [None]
    report_page(tmp_path, tmp_path / "report.html")
    assert (
        "failed at batch 8, 2 streams: its process was ended by SIGKILL"
        in (tmp_path / "report.html").read_text()
    )
