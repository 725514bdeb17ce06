"""TensorRT engines replay their work by CUDA graphs, or start each kernel if they cannot."""

from __future__ import annotations

import ctypes
import itertools
import sys
from typing import Any

import cv2
import numpy as np
import pytest

from adq_edge.benchmark.timing import time_image
from adq_edge.benchmark.worker import find_host_work
from adq_edge.runtimes.registry import load_engine
from adq_edge.runtimes.tensorrt import cuda_graph
from adq_edge.runtimes.tensorrt.engine import TensorRTEngine
from factories.recording_tensorrt import SimulatedMachine
from factories.tensorrt_plans import IMAGES, SCORES, install, released, write_plan


def test_second_batch_of_a_size_is_recorded_and_later_ones_replay_it(monkeypatch, tmp_path):
    machine = install(monkeypatch, SimulatedMachine())
    graphs = []
    with load_engine(write_plan(tmp_path)) as engine:
        assert engine.host_work() is None
        for number, count in enumerate((1, 1, 1, 3, 1, 1)):
            images = IMAGES[number : number + count]
            scores = SCORES[number : number + count]
            np.testing.assert_allclose(engine.run(images).scores, scores, rtol=1e-6)
            work = engine.host_work()
            assert work is not None
            assert work.enqueue_ms > 0
            graphs.append(work.is_graph)
    assert graphs == [False, True, True, False, False, True]
    calls = [call for call in machine.calls if call.startswith(("cu", "exec"))]
    record = [
        "cuStreamBeginCapture_v2",
        "cuStreamEndCapture",
        "cuGraphInstantiateWithFlags",
        "cuGraphDestroy",
    ]
    run, replay, drop = "execute_async_v3", "cuGraphLaunch", "cuGraphExecDestroy"
    assert calls == [run, *record, replay, replay, drop, run, run, *record, replay, drop]
    assert released(machine)


@pytest.mark.parametrize(
    "fault",
    [
        *("cuStreamBeginCapture_v2", "cuStreamEndCapture", "cuGraphInstantiateWithFlags"),
        *("execute_async_v3", "raises", "no driver"),
    ],
)
def test_engine_that_cannot_be_recorded_starts_each_kernel(monkeypatch, tmp_path, fault: str):
    """As TensorRT 8.2 on Volta (NVIDIA/TensorRT #1614); it is tried once."""
    machine = install(monkeypatch, SimulatedMachine(graph_fault=fault))
    if fault == "no driver":
        monkeypatch.setattr(cuda_graph, "_load_driver", lambda: {})
    with load_engine(write_plan(tmp_path)) as engine:
        assert isinstance(engine, TensorRTEngine)
        kind = type(engine._idle[0]._context)
        execute = kind.execute_async_v3

        def start(context: Any, stream: int) -> bool:
            if fault == "raises" and machine.recording is not None:
                raise RuntimeError("operation not permitted when stream is capturing")
            return execute(context, stream)

        monkeypatch.setattr(kind, "execute_async_v3", start)
        for number in range(4):
            images = IMAGES[number : number + 1]
            np.testing.assert_allclose(engine.run(images).scores, SCORES[number : number + 1], rtol=1e-6)
        work = engine.host_work()
        assert work is not None
        assert not work.is_graph
    assert machine.recording is None
    assert machine.calls.count("execute_async_v3") == 4
    assert machine.calls.count("cuStreamBeginCapture_v2") == (fault != "no driver")
    has_graph = fault in ("cuGraphInstantiateWithFlags", "execute_async_v3", "raises")
    assert machine.calls.count("cuGraphDestroy") == has_graph
    assert released(machine)


def test_handles_of_64_bits_reach_the_cuda_driver(monkeypatch):
    """The functions are C functions, with the types of cuda.h."""
    stream, seen = 0x7FFF_1234_5678_9ABC, []
    given = itertools.count(0x7FFF_0000_0000_0001)

    def make(name: str, types: Any) -> Any:
        def call(*arguments: Any) -> int:
            seen.append((name, *(value for value in arguments if isinstance(value, int))))
            for value in arguments:
                if not isinstance(value, int):
                    value[0] = next(given)
            return 0

        return ctypes.CFUNCTYPE(ctypes.c_int, *types)(call)

    functions = {name: make(name, types) for name, types in cuda_graph._PROTOTYPES.items()}
    monkeypatch.setattr(ctypes, "CDLL", lambda name: functions)
    monkeypatch.setattr(cuda_graph, "_load_driver", cuda_graph._load_driver.__wrapped__)
    graph = cuda_graph.CudaGraph(stream, lambda: True)
    graph.launch()
    graph.free()
    recorded, executable = 0x7FFF_0000_0000_0001, 0x7FFF_0000_0000_0002
    assert seen == [
        ("cuStreamBeginCapture_v2", stream, 1),
        ("cuStreamEndCapture", stream),
        ("cuGraphInstantiateWithFlags", recorded, 0),
        ("cuGraphDestroy", recorded),
        ("cuGraphLaunch", executable, stream),
        ("cuGraphExecDestroy", executable),
    ]


def test_machine_without_a_cuda_driver_has_no_graphs(monkeypatch):
    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    monkeypatch.setattr(cuda_graph, "_load_driver", cuda_graph._load_driver.__wrapped__)
    with pytest.raises(cuda_graph.CudaGraphError, match="the CUDA driver has no graphs"):
        cuda_graph.CudaGraph(1, lambda: True)


def test_work_of_dla_or_without_the_option_is_not_recorded(monkeypatch, tmp_path):
    machine = install(monkeypatch, SimulatedMachine(is_integrated=True))
    with load_engine(write_plan(tmp_path, dla=0)) as engine:
        list(engine.run_many([IMAGES[:1]] * 4, 2))
    assert "memcpy_htod_async" in machine.calls  # a DLA is not known to read mapped memory
    with load_engine(write_plan(tmp_path)) as engine:
        engine.use_cuda_graph = False
        list(engine.run_many([IMAGES[:1]] * 4, 2))
    assert not [call for call in machine.calls if call.startswith("cu")]


def test_work_of_tensorrt_rtx_is_not_recorded(monkeypatch, tmp_path):
    """It may still compile kernels while it runs."""
    machine = install(monkeypatch, SimulatedMachine("1.2.0.54"))
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", machine.tensorrt)
    with load_engine(write_plan(tmp_path, "1.2.0.54", runtime="tensorrt-rtx")) as engine:
        for _ in range(3):
            np.testing.assert_allclose(engine.run(IMAGES[:1]).scores, SCORES[:1], rtol=1e-6)
    assert not [call for call in machine.calls if call.startswith("cu")]


def test_benchmark_reads_host_work_and_stages(monkeypatch, tmp_path):
    machine = install(monkeypatch, SimulatedMachine())
    with load_engine(write_plan(tmp_path)) as engine:
        engine.run(IMAGES[:1])
        work = find_host_work(engine, [IMAGES[:1], IMAGES[1:2]])
        assert work is not None
        assert work.is_graph
        assert 0 < work.enqueue_ms < 1000
        assert machine.events == 0
        encoded = cv2.imencode(".png", IMAGES[0])[1].tobytes()
        assert {"host_to_device", "device_to_host"} <= set(time_image(engine, encoded))
        assert not engine.time_stages
        engine.use_cuda_graph = False
        work = find_host_work(engine, [IMAGES[:1]])
        assert work is not None
        assert not work.is_graph
