"""Benchmarks of engines, clocks and workers that do not behave: one line each, and no result file."""

from __future__ import annotations

import dataclasses
import math
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from adq_edge.artifacts.sidecar import Sidecar, sidecar_path
from adq_edge.benchmark.bench import bench
from adq_edge.benchmark.measurements import Batches, ImageDurations, WarmUpResult
from adq_edge.benchmark.results import BenchmarkReport
from adq_edge.benchmark.worker_process import EngineWorker
from adq_edge.core.errors import AdqError, EngineError
from adq_edge.core.files import sha256
from adq_edge.report.tables.bench import bench_tables
from factories.tiny_engine import write_engine


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_engine(tmp_path_factory.mktemp("engines") / "tiny.onnx")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_engine_with_a_score_that_is_not_finite_is_refused(tmp_path: Path, value: float):
    path = write_engine(tmp_path / "broken.onnx")
    model = onnx.load(str(path))
    weights = numpy_helper.to_array(model.graph.initializer[0])
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.full_like(weights, value), "weights"))
    onnx.save(model, str(path))
    sidecar = Sidecar.read(sidecar_path(path))
    dataclasses.replace(sidecar, engine_sha256=sha256(path)).write(sidecar_path(path))
    with pytest.raises(
        EngineError, match=r"broken\.onnx: its anomaly map or score .* is NaN or infinite\. Build"
    ):
        bench(path, quick=True, output=tmp_path / "results", progress=False)
    assert not list(tmp_path.glob("results/*"))


def test_one_query_in_no_time_is_a_valid_result(tiny: Path, tmp_path: Path):
    bench(tiny, queries=1, seconds=0.0, batches=(1,), output=tmp_path / "one.bench.json", progress=False)
    report = BenchmarkReport.read(tmp_path / "one.bench.json")
    stream = report.engines[0].single_stream
    assert stream is not None
    assert 1 <= stream.latency.count <= 6
    assert len(bench_tables(report)) >= 2


@pytest.mark.parametrize(
    "amount",
    [{"queries": 0}, {"seconds": -1.0}, {"seconds": math.nan}, {"seconds": math.inf}, {"batches": ()}],
)
def test_amount_without_a_measurement_is_refused(tiny: Path, amount: Any):
    with pytest.raises(AdqError, match="nothing to measure"):
        bench(tiny, progress=False, **amount)


def test_worker_that_dies_in_single_stream_is_one_line(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def die(worker: EngineWorker, count: int) -> np.ndarray:
        os.kill(worker.pid, signal.SIGKILL)
        return run_queries(worker, count)

    run_queries = EngineWorker.run_queries
    monkeypatch.setattr(EngineWorker, "run_queries", die)
    with pytest.raises(
        EngineError, match=r"tiny\.onnx: its process was ended by SIGKILL\. Check that enough"
    ):
        bench(tiny, quick=True, output=tmp_path / "results", progress=False)
    assert not list(tmp_path.glob("results/*"))


class OddWorker:
    """A worker process whose clock goes backwards or whose replies have another length."""

    pid = 1

    def __init__(self, returned: Any) -> None:
        self._returned = returned

    def call(self, function: Any, **arguments: Any) -> Any:
        return self._returned


def durations(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


@pytest.mark.parametrize(
    ("method", "arguments", "returned"),
    [
        ("run_queries", (3,), durations(5, -4, 5)),
        ("run_queries", (3,), durations(5, 0, 5)),
        ("run_queries", (3,), durations()),
        ("run_queries", (3,), durations(5, 5)),
        ("run_images", (1,), ImageDurations(durations(1), durations(1), durations(-9), durations(1))),
        ("run_images", (2,), ImageDurations(durations(1), durations(1), durations(9), durations(1))),
        ("run_batches", (4, 1, 0.1), Batches(8, 0)),
        ("run_batches", (4, 1, 0.1), Batches(0, 100)),
        ("warm_up", (0.1, 0.2), WarmUpResult(15, 0.1, True, 0.0, 10.0, 0.1, 1.0)),
        ("warm_up", (0.1, 0.2), WarmUpResult(15, 0.1, True, math.nan, 10.0, 0.1, 1.0)),
    ],
)
def test_impossible_duration_is_one_line(method: str, arguments: Any, returned: Any):
    worker: Any = OddWorker(returned)
    with pytest.raises(
        EngineError, match=r"^x\.onnx: its process measured a duration or a count that is not"
    ):
        getattr(EngineWorker(Path("x.onnx"), worker), method)(*arguments)
