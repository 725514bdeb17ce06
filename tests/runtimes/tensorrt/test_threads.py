"""Threads and batches in flight share one TensorRT engine."""

from __future__ import annotations

import itertools
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, List

import numpy as np
import pytest

from adq_edge.benchmark.timing import time_batches
from adq_edge.core.errors import EngineError
from adq_edge.runtimes.registry import load_engine
from adq_edge.runtimes.tensorrt.engine import TensorRTEngine
from factories.recording_tensorrt import SimulatedMachine
from factories.tensorrt_plans import IMAGES, SCORES, install, released, started, write_plan
from factories.threads import run_in_threads


@pytest.mark.parametrize(("version", "slots"), [("8.5.2.2", 1), ("8.6.1", 2), ("11.0.0", 2)])
def test_batches_in_flight_keep_their_order(monkeypatch, tmp_path, version: str, slots: int):
    machine = install(monkeypatch, SimulatedMachine(version))
    with load_engine(write_plan(tmp_path, version)) as engine:
        assert isinstance(engine, TensorRTEngine)
        assert engine.stream_counts[-1] == slots
        batches = [IMAGES[:4], IMAGES[4:5], IMAGES[5:8], IMAGES[8:]]
        scores = np.concatenate([output.scores for output in engine.run_many(batches, slots)])
        assert engine.device_memory() == (1000 if version.startswith("8") else 2000)
    np.testing.assert_allclose(scores, SCORES, rtol=1e-6)
    assert machine.calls.count("create_execution_context") == slots
    first_wait = machine.calls.index("synchronize")
    assert machine.calls[:first_wait].count("execute_async_v3") == slots


@pytest.mark.parametrize("slots", [1, 2])
def test_no_batch_is_left_on_the_gpu_after_an_early_close(monkeypatch, tmp_path, slots: int):
    machine = install(monkeypatch, SimulatedMachine())
    with load_engine(write_plan(tmp_path)) as engine:
        outputs = engine.run_many(itertools.cycle([IMAGES[:2], IMAGES[2:4]]), slots)
        np.testing.assert_allclose(next(outputs).scores, SCORES[:2], rtol=1e-6)
        np.testing.assert_allclose(next(outputs).scores, SCORES[2:4], rtol=1e-6)
        outputs.close()
        assert machine.calls.count("synchronize") == started(machine) == slots + 1
        done = time_batches(engine, IMAGES[:2], slots, 0.01)
        assert machine.calls.count("synchronize") == started(machine)
        assert done.images % (2 * slots) == 0
        np.testing.assert_allclose(engine.run(IMAGES[4:6]).scores, SCORES[4:6], rtol=1e-6)


def test_threads_get_the_results_of_their_own_images(monkeypatch, tmp_path):
    """Loaded, used and closed by different threads; every third thread keeps batches in flight."""
    machine = install(monkeypatch, SimulatedMachine())
    with ThreadPoolExecutor(1) as pool:
        engine = pool.submit(load_engine, write_plan(tmp_path)).result()

    def score(number: int) -> List[np.ndarray]:
        batch = IMAGES[number : number + 1 + number % 2]
        if number % 3 == 0:
            return [output.scores for output in engine.run_many([batch] * 12, 2)]
        return [engine.run(batch).scores for _ in range(12)]

    for number, found in enumerate(run_in_threads(8, score)):
        for scores in found:
            np.testing.assert_allclose(scores, SCORES[number : number + 1 + number % 2], rtol=1e-6)
    assert machine.contexts_current == 0
    engine.close()
    assert released(machine)


def test_close_waits_for_running_threads_and_rejects_later_calls(monkeypatch, tmp_path):
    machine = install(monkeypatch, SimulatedMachine())
    engine = load_engine(write_plan(tmp_path))
    flight = engine.run_many(itertools.repeat(IMAGES[:1]), 2)
    next(flight)

    def score(number: int) -> str:
        if number == 0:
            time.sleep(0.02)
            engine.close()
            return "is closed"
        try:
            while True:
                np.testing.assert_allclose(engine.run(IMAGES[number : number + 1]).scores[0], SCORES[number])
        except EngineError as error:
            return str(error)

    assert all("is closed" in message for message in run_in_threads(5, score))
    with pytest.raises(EngineError, match="is closed"):
        next(flight)
    assert released(machine)


def test_call_between_batches_in_flight_changes_neither(monkeypatch, tmp_path):
    install(monkeypatch, SimulatedMachine())
    with load_engine(write_plan(tmp_path)) as engine:
        flight = engine.run_many([IMAGES[i : i + 1] for i in range(6)], 2)
        for number, output in enumerate(flight):
            np.testing.assert_allclose(engine.run(IMAGES[7:9]).scores, SCORES[7:9], rtol=1e-6)
            np.testing.assert_allclose(output.scores, SCORES[number : number + 1], rtol=1e-6)


def test_stages_are_those_of_the_calling_thread(monkeypatch, tmp_path):
    install(monkeypatch, SimulatedMachine())
    with load_engine(write_plan(tmp_path)) as engine:
        engine.time_stages = True
        engine.run(IMAGES[:1])
        assert engine.stages() is not None
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(engine.stages).result() is None
            pool.submit(engine.run, IMAGES[:1]).result()
        assert engine.stages() is None


def test_run_whose_context_was_freed_has_no_stages(monkeypatch, tmp_path):
    """The garbage collector closes a generator during a run: then the context of the run is freed."""
    machine = install(monkeypatch, SimulatedMachine())
    with load_engine(write_plan(tmp_path)) as engine:
        assert isinstance(engine, TensorRTEngine)
        flight = engine.run_many(itertools.repeat(IMAGES[:1]), 2)
        next(flight)
        kind = type(engine._slots[0]._context)
        execute = kind.execute_async_v3

        def close_and_execute(context: Any, stream: int) -> bool:
            flight.close()
            return execute(context, stream)

        monkeypatch.setattr(kind, "execute_async_v3", close_and_execute)
        engine.time_stages = True
        np.testing.assert_allclose(engine.run(IMAGES[:1]).scores, SCORES[:1], rtol=1e-6)
        assert len(engine._slots) == 2
        assert engine.stages() is None
    assert released(machine)
