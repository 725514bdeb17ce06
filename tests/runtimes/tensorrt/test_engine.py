"""TensorRT engines on a simulated machine: results, order of calls, and errors of a query."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from adq_edge.core.errors import EngineError
from adq_edge.runtimes.registry import load_engine
from adq_edge.runtimes.tensorrt.engine import TensorRTEngine
from factories.recording_tensorrt import SimulatedMachine
from factories.tensorrt_plans import IMAGES, SCORES, SIZE, install, released, write_plan


def test_results_and_order_of_calls_of_one_query(monkeypatch, tmp_path):
    machine = install(monkeypatch, SimulatedMachine())
    with load_engine(write_plan(tmp_path)) as engine:
        assert isinstance(engine, TensorRTEngine)
        assert engine.max_batch == 4
        for count in (1, 3, 3, 4):
            output = engine.run(IMAGES[:count])
            np.testing.assert_allclose(output.scores, SCORES[:count], rtol=1e-6)
            np.testing.assert_allclose(
                output.maps, np.broadcast_to(SCORES[:count, None, None], (count, 2, 2))
            )
        assert engine.device_memory() == 2000
        assert engine.stages() is None
        assert machine.events == 0
        engine.time_stages = True
        engine.run(IMAGES[:2])
        assert engine.stages() == (1.0, 1.0, 2.0)  # calls between the events
    assert machine.calls[:9] == [
        "create_execution_context",
        "set_tensor_address image",
        "set_tensor_address anomaly_map",
        "set_tensor_address anomaly_score",
        "set_input_shape 1",
        "memcpy_htod_async",
        "execute_async_v3",
        "memcpy_dtoh_async",
        "memcpy_dtoh_async",
    ]
    assert [call for call in machine.calls if "shape" in call] == [
        f"set_input_shape {n}" for n in (1, 3, 4, 2)
    ]
    assert released(machine)


FURTHER = {"embedding": (5,), "scale_map_1": (4, 3), "scale_map_2": (2, 1)}


def test_further_outputs_are_copied_from_their_own_buffers(monkeypatch, tmp_path):
    machine = install(monkeypatch, SimulatedMachine(further=FURTHER))
    path = write_plan(tmp_path, embedding_size=5, scale_sizes=((4, 3), (2, 1)))
    with load_engine(path) as engine:
        outputs = [engine.run(IMAGES[:3]), engine.run(IMAGES[:2]), *engine.run_many([IMAGES[:4]] * 3, 2)]
    for output, count in zip(outputs, (3, 2, 4, 4, 4)):
        further = (output.embeddings, *output.scale_maps)
        for number, (values, shape) in enumerate(zip(further, FURTHER.values()), 1):
            expected = SCORES[:count].reshape(-1, *[1] * len(shape)) + number
            np.testing.assert_allclose(values, np.broadcast_to(expected, (count, *shape)), rtol=1e-6)
        np.testing.assert_allclose(output.scores, SCORES[:count], rtol=1e-6)
    assert released(machine)
    for changes, message in (
        ({}, "has further outputs"),
        ({"embedding_size": 6}, "has the tensor embedding as float"),
        ({"embedding_size": 5, "scale_sizes": ((4, 3),) * 3}, "has the outputs anomaly_map"),
    ):
        with pytest.raises(EngineError, match=message):
            load_engine(write_plan(tmp_path, **changes))
    assert released(machine)


def test_next_run_does_not_change_earlier_outputs(monkeypatch, tmp_path):
    install(monkeypatch, SimulatedMachine())
    with load_engine(write_plan(tmp_path)) as engine:
        first = engine.run(IMAGES[:1])
        engine.run(IMAGES[1:2])
        np.testing.assert_allclose(first.scores, SCORES[:1], rtol=1e-6)


def test_static_engine_needs_no_input_shape(monkeypatch, tmp_path):
    machine = install(monkeypatch, SimulatedMachine("8.5.2.2", shape=(1, SIZE, SIZE, 3), max_batch=1))
    with load_engine(write_plan(tmp_path, "8.5.2.2")) as engine:
        assert isinstance(engine, TensorRTEngine)
        outputs = list(engine.run_many((IMAGES[i : i + 1] for i in range(3)), 2))
        np.testing.assert_allclose([float(output.scores[0]) for output in outputs], SCORES[:3], rtol=1e-6)
    assert not [call for call in machine.calls if "shape" in call]
    assert machine.calls.count("create_execution_context") == 2


def test_too_large_batch_and_closed_engine_are_rejected(monkeypatch, tmp_path):
    install(monkeypatch, SimulatedMachine())
    engine = load_engine(write_plan(tmp_path))
    with pytest.raises(EngineError, match="takes at most 4 images at once, not 5"):
        engine.run(IMAGES[:5])
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="is closed"):
        engine.run(IMAGES[:1])


def test_failure_on_the_gpu_is_one_line_and_the_engine_still_works(monkeypatch, tmp_path):
    machine = install(monkeypatch, SimulatedMachine())
    with load_engine(write_plan(tmp_path)) as engine:
        copy = machine.driver.memcpy_dtoh_async

        def fail(*arguments: Any) -> None:
            raise RuntimeError("cuMemcpyDtoHAsync failed: an illegal memory access\nwas encountered")

        machine.driver.memcpy_dtoh_async = fail
        with pytest.raises(
            EngineError, match=r"cannot run it .cuMemcpyDtoHAsync failed: an illegal memory access.\. "
        ) as caught:
            engine.run(IMAGES[:3])
        assert "\n" not in str(caught.value)
        machine.driver.memcpy_dtoh_async = copy
        np.testing.assert_allclose(engine.run(IMAGES[:1]).scores, SCORES[:1], rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("set_input_shape", "TensorRT rejects a batch of 2 images"),
        ("execute_async_v3", "TensorRT cannot run it"),
    ],
)
def test_refused_call_gives_an_error_and_no_result(monkeypatch, tmp_path, call: str, message: str):
    """TensorRT reports it by False: the buffers still hold the result of an earlier batch."""
    install(monkeypatch, SimulatedMachine())
    with load_engine(write_plan(tmp_path)) as engine:
        assert isinstance(engine, TensorRTEngine)
        engine.run(IMAGES[:1])
        with monkeypatch.context() as patch:
            patch.setattr(type(engine._idle[0]._context), call, lambda *_: False)
            for _ in range(2):
                with pytest.raises(EngineError, match=message):
                    engine.run(IMAGES[1:3])
        np.testing.assert_allclose(engine.run(IMAGES[1:3]).scores, SCORES[1:3], rtol=1e-6)
