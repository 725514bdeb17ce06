"""Offline: the search for the best load, the turns of engines, and simultaneous calls."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Tuple

import numpy as np
import pytest

from adq_edge.artifacts.engine_file import EngineFile
from adq_edge.artifacts.sidecar import read_sidecar
from adq_edge.benchmark import schedule
from adq_edge.benchmark.measurements import Batches, Loaded
from adq_edge.benchmark.offline import Load, check_batches, run_offline, search_loads
from adq_edge.benchmark.records import OfflineEnd
from adq_edge.benchmark.schedule import Plan
from adq_edge.benchmark.timing import time_batches
from adq_edge.core.errors import AdqError, EngineError
from adq_edge.runtimes.base import Output
from adq_edge.runtimes.cpu import CpuEngine, Stream, run_in_threads
from adq_edge.runtimes.registry import load_engine
from factories.tiny_engine import SIZE, write_engine


def properties(stream_counts: Tuple[int, ...] = (1,), max_batch=None) -> Loaded:
    return Loaded(
        name="a",
        sha256="",
        model_sha256="",
        device="cpu",
        precision="int8",
        arch="stfpm",
        image_size=(SIZE, SIZE),
        engine_mb=1.0,
        runtime="onnxruntime",
        runtime_version="1",
        load_ms=1.0,
        stream_counts=stream_counts,
        max_batch=max_batch,
        rss_before_load_mb=1.0,
        model_mb=1.0,
        device_mb=None,
        build_seconds=None,
        layers={},
    )


def plan(batches=None) -> Plan:
    return Plan(1, 1.0, 0.1, offline_seconds=1.0, offline_turns=2, max_batch=32, batches=batches)


def path_and_end(
    loaded: Loaded, throughput: Callable[[int, int], float], batches=None
) -> Tuple[List[Tuple[int, int]], OfflineEnd]:
    """Return the loads that are measured with this throughput, and why the search ended."""
    one, tried = search_loads(loaded, plan(batches)), []
    load = next(one)
    while True:
        tried.append(tuple(load))
        try:
            load = one.send(throughput(*load))
        except StopIteration as stop:
            return tried, stop.value


def path(loaded: Loaded, throughput: Callable[[int, int], float], batches=None) -> List[Tuple[int, int]]:
    return path_and_end(loaded, throughput, batches)[0]


def test_search_takes_larger_batches_until_throughput_stops_rising():
    assert path(properties(), lambda batch, _: 100.0 * min(batch, 4)) == [(1, 1), (2, 1), (4, 1), (8, 1)]
    assert path(properties(), lambda batch, _: 100.0) == [(1, 1), (2, 1)]
    assert path(properties(), lambda batch, _: 100.0 * batch)[-1] == (32, 1)


def test_search_takes_more_streams_until_throughput_stops_rising():
    tried = path(properties((1, 2, 4, 8)), lambda _, streams: 100.0 * min(streams, 2))
    assert tried == [(1, 1), (2, 1), (1, 2), (2, 2), (1, 4), (2, 4)]


def test_search_respects_max_batch_and_the_duration_of_a_call():
    assert path(properties(max_batch=3), lambda batch, _: 100.0 * batch) == [(1, 1), (2, 1)]
    assert path(properties(), lambda batch, _: 0.5 * batch) == [
        (1, 1),
        (2, 1),
        (4, 1),
        (8, 1),
        (16, 1),
        (32, 1),
    ]
    assert path(properties(), lambda batch, _: 0.5 + batch / 100) == [(1, 1), (2, 1)]  # 8 s for the next call


def test_named_batch_sizes_are_all_measured():
    assert path(properties(), lambda *_: 100.0, (8, 3, 1)) == [(8, 1), (3, 1), (1, 1)]
    assert path(properties(max_batch=8), lambda *_: 100.0, (8, 3)) == [(8, 1), (3, 1)]


def test_check_batches_rejects_too_large_batch_sizes():
    check_batches("a.plan", properties(max_batch=4), (4, 1))
    check_batches("a.plan", properties(max_batch=4), None)
    check_batches("a.onnx", properties(), (1000,))
    with pytest.raises(AdqError) as caught:
        check_batches("a.plan", properties(max_batch=4), (3, 8, 16))
    assert str(caught.value) == (
        "a.plan: takes at most 4 images at once, not 8, 16. "
        "Name smaller batch sizes, or build it with a larger --max-batch."
    )


def test_search_returns_why_it_ended():
    def end(loaded: Loaded, throughput: Callable[[int, int], float], batches=None) -> OfflineEnd:
        return path_and_end(loaded, throughput, batches)[1]

    assert end(properties(), lambda batch, _: 100.0 * min(batch, 4)) is OfflineEnd.STOPPED_RISING
    assert end(properties(), lambda batch, _: 100.0 * batch) is OfflineEnd.LARGEST_BATCH
    assert end(properties(max_batch=1), lambda batch, _: 100.0) is OfflineEnd.LARGEST_BATCH
    assert end(properties(), lambda batch, _: 0.5 + batch / 10) is OfflineEnd.TOO_LONG
    assert end(properties(), lambda *_: 100.0, (8, 3, 1)) is OfflineEnd.NAMED
    # with several stream counts: the end of the best one
    slower = properties((1, 2))
    assert end(slower, lambda batch, streams: 100.0 * batch if streams == 1 else 1.0) is (
        OfflineEnd.LARGEST_BATCH
    )
    assert end(slower, lambda batch, streams: batch if streams == 1 else 100.0) is OfflineEnd.STOPPED_RISING


class FakeEngine:
    def __init__(self, name: str, best: int, log: List[str]) -> None:
        self.name, self.best, self.log = name, best, log

    def run_batches(self, batch: int, streams: int, seconds: float) -> Batches:
        assert seconds == 0.5
        self.log.append(f"{self.name}{batch}")
        return Batches(batch, int(batch * 1e9 / min(batch, self.best)))


def test_engines_take_turns_and_end_separately(monkeypatch: pytest.MonkeyPatch):
    pauses: List[float] = []
    monkeypatch.setattr(schedule.time, "sleep", pauses.append)
    log: List[str] = []
    steps: List[int] = []
    windows: List[Tuple[int, bool, int]] = []

    @contextlib.contextmanager
    def window(position: int, queries: bool) -> Iterator[None]:
        before = len(log)
        yield
        windows.append((position, queries, len(log) - before))

    engines = [FakeEngine("a", 1, log), FakeEngine("b", 2, log)]
    results = run_offline(engines, [properties(), properties()], plan(), window, lambda: steps.append(1))
    assert log == ["a1", "b1"] * 2 + ["a2", "b2"] * 2 + ["b4"] * 2
    assert [one.end for one in results] == [OfflineEnd.STOPPED_RISING] * 2
    assert list(results[1].calls) == [Load(1, 1), Load(2, 1), Load(4, 1)]
    assert results[1].calls[Load(2, 1)] == Batches(4, 2_000_000_000)
    assert len(steps) == len(pauses) == len(log)
    assert windows == [("ab".index(name[0]), False, 1) for name in log]


def test_failing_engine_keeps_complete_loads_and_others_continue(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(schedule.time, "sleep", lambda _: None)

    class Breaks(FakeEngine):
        def run_batches(self, batch: int, streams: int, seconds: float) -> Batches:
            if self.log[-2:] == ["a2", "b2"]:  # in the second turn of its second load
                raise EngineError("broke", where="a.onnx")
            return super().run_batches(batch, streams, seconds)

    log: List[str] = []
    engines = [Breaks("a", 8, log), FakeEngine("b", 2, log)]
    failed, other = run_offline(
        engines, [properties(), properties()], plan(), lambda *_: contextlib.nullcontext(), list
    )
    assert log == ["a1", "b1"] * 2 + ["a2", "b2"] + ["b2"] + ["b4"] * 2
    assert failed.calls == {Load(1, 1): Batches(2, 2_000_000_000)}
    assert failed.end is OfflineEnd.FAILED
    assert str(failed.failure) == "at batch 2, 1 stream: broke"
    assert list(other.calls) == [Load(1, 1), Load(2, 1), Load(4, 1)]
    assert (other.end, other.failure) == (OfflineEnd.STOPPED_RISING, None)


# --- streams ---------------------------------------------------------------------------------------------


def test_streams_run_at_the_same_time_and_results_keep_their_order():
    meeting = threading.Barrier(3, timeout=30)

    def stream(images: np.ndarray) -> Output:
        meeting.wait()  # blocks until three calls run at once
        return Output(images, images)

    batches = [np.full(1, number) for number in range(9)]
    outputs = run_in_threads([stream] * 3, batches)
    assert [int(output.scores[0]) for output in outputs] == list(range(9))


def test_error_of_a_stream_is_raised():
    def fail(images: np.ndarray) -> Output:
        raise EngineError("broke")

    with pytest.raises(EngineError, match="broke"):
        list(run_in_threads([fail] * 2, [np.zeros(1)] * 8))


def test_closing_early_skips_calls_that_have_not_begun():
    begun: List[int] = []
    ended: List[int] = []

    def stream(images: np.ndarray) -> Output:
        begun.append(int(images[0]))
        time.sleep(0.05)
        ended.append(int(images[0]))
        count = len(images)
        return Output(np.zeros((count, SIZE, SIZE), np.float32), np.zeros(count, np.float32))

    outputs = run_in_threads([stream] * 2, (np.full(1, number) for number in itertools.count()))
    assert int(next(outputs).scores[0]) == 0
    before = len(begun)
    outputs.close()
    assert before <= len(begun) <= before + 2
    assert len(ended) == len(begun)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_engine(tmp_path_factory.mktemp("engines") / "tiny.onnx")


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_outputs_are_equal_for_any_number_of_streams(tiny: Path, runtime: str):
    if runtime == "openvino":
        pytest.importorskip("openvino")
    generator = np.random.default_rng(0)
    batches = [generator.integers(0, 256, (2, SIZE, SIZE, 3), np.uint8) for _ in range(10)]
    with load_engine(tiny, runtime=runtime, threads=4) as engine:
        assert engine.stream_counts == (1, 2, 4)
        expected = [engine.run(batch) for batch in batches]
        for streams in (2, 1, 4):
            for output, own in zip(engine.run_many(iter(batches), streams), expected):
                np.testing.assert_allclose(output.maps, own.maps, rtol=1e-6)
                np.testing.assert_allclose(output.scores, own.scores, rtol=1e-6)
        with pytest.raises(EngineError, match="takes uint8"):
            list(engine.run_many([batches[0].astype(np.float32)], 2))


def test_time_batches_counts_all_timed_calls(tiny: Path):
    with load_engine(tiny, threads=2) as engine:
        calls: List[int] = []

        def counted(batches, streams: int) -> Iterator[Output]:
            for output in type(engine).run_many(engine, batches, streams):
                calls.append(len(output.scores))
                yield output

        engine.run_many = counted  # type: ignore[method-assign]
        done = time_batches(engine, np.zeros((3, SIZE, SIZE, 3), np.uint8), 2, 0.05)
    assert done.images == sum(calls[2:])  # one untimed call per stream comes first
    assert done.elapsed_ns >= 0.05e9
    assert done.images % (2 * 3) == 0


class Sleeper(CpuEngine):
    """An engine with a constant duration per call on every stream."""

    runtime, runtime_version = "none", "1"

    def __init__(self, path: Path, seconds: float, streams: int) -> None:
        super().__init__(EngineFile(path, None), read_sidecar(path), threads=streams)
        self.seconds, self.begun = seconds, 0

    def _open_streams(self, count: int, threads: int) -> List[Stream]:
        return [self._run] * count

    def _run(self, images: np.ndarray) -> Output:
        self.begun += 1
        time.sleep(self.seconds)
        count = len(images)
        return Output(np.zeros((count, SIZE, SIZE), np.float32), np.zeros(count, np.float32))

    def operators(self) -> Dict[str, int]:
        return {}


@pytest.mark.parametrize(("streams", "calls"), [(1, 3), (2, 6), (4, 12)])
def test_no_stream_is_idle_while_time_counts(tiny: Path, streams: int, calls: int):
    """2.5 durations of a call give three rounds; a single further call would cost 10 % with two streams."""
    engine = Sleeper(tiny, 0.2, streams)
    done = time_batches(engine, np.zeros((3, SIZE, SIZE, 3), np.uint8), streams, 2.5 * engine.seconds)
    assert done.images == 3 * calls
    assert 1e9 * done.images / done.elapsed_ns == pytest.approx(3 * streams / engine.seconds, rel=0.05)
    assert engine.begun <= streams + calls + streams  # untimed, timed, and running at the end
