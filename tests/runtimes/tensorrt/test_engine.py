"""TensorRT engines, calibrators and settings on a simulated machine: order of calls, and errors."""

from __future__ import annotations

import ctypes
import dataclasses
import itertools
import sys
import time
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Dict, List, Optional

import cv2
import numpy as np
import pytest

from adq_edge.artifacts.bundle import FileReference
from adq_edge.artifacts.sidecar import Sidecar, TensorRTDetails, sidecar_path
from adq_edge.benchmark.timing import time_batches, time_image
from adq_edge.benchmark.worker import find_host_work
from adq_edge.core.errors import BuildError, EngineError, MissingDependencyError
from adq_edge.core.files import sha256
from adq_edge.core.options import Precision, Route
from adq_edge.core.runtimes import TENSORRT
from adq_edge.runtimes.registry import load_engine
from adq_edge.runtimes.tensorrt import building, cuda_graph
from adq_edge.runtimes.tensorrt.calibrators import cache_reader, own_calibrator
from adq_edge.runtimes.tensorrt.engine import TensorRTEngine
from adq_edge.runtimes.tensorrt.inspection import count_kinds, count_precisions, read_layers
from adq_edge.runtimes.tensorrt.job import Job, OwnCalibrator
from adq_edge.runtimes.tensorrt.log import FailureKind, read_failure, read_progress
from adq_edge.runtimes.tensorrt.release import Release
from factories.recording_tensorrt import SimulatedMachine
from factories.threads import run_in_threads

SIZE = 8
IMAGES = np.random.default_rng(0).integers(0, 256, (9, SIZE, SIZE, 3), np.uint8)
SCORES = IMAGES.reshape(9, -1).mean(axis=1).astype(np.float32)


def plan(
    folder: Path,
    version: str = "10.3.0",
    capability: str = "7.2",
    dla: Optional[int] = None,
    **changes: Any,
) -> Path:
    import platform

    path = folder / "e.plan"
    path.write_bytes(b"a plan")
    details = TensorRTDetails("explicit", capability, 4, dla, None, (), 64, 1.0, None, ())
    sidecar = Sidecar(
        name="e",
        runtime="tensorrt",
        runtime_version=version,
        device="cuda",
        machine=platform.machine(),
        precision=Precision.INT8,
        arch="stfpm",
        image_size=(SIZE, SIZE),
        map_size=(2, 2),
        engine_sha256=sha256(path),
        model=FileReference("m", "0"),
        operators={},
        calibration=None,
        threshold=None,
        data=None,
        tensorrt=details,
    )
    dataclasses.replace(sidecar, **changes).write(sidecar_path(path))
    return path


def install(monkeypatch: pytest.MonkeyPatch, machine: SimulatedMachine) -> SimulatedMachine:
    for name, module in machine.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(cuda_graph, "_load_driver", machine.graph_functions)
    return machine


def started(machine: SimulatedMachine) -> int:
    """Return the number of batches that were started, with or without a CUDA graph."""
    return machine.calls.count("execute_async_v3") + machine.calls.count("cuGraphLaunch")


def released(machine: SimulatedMachine) -> bool:
    return (machine.heap, machine.pinned, machine.graphs, machine.contexts_current) == ({}, 0, {}, 0)


# --- engines --------------------------------------------------------------------


def test_results_and_order_of_calls_of_one_query(monkeypatch, tmp_path):
    machine = install(monkeypatch, SimulatedMachine())
    with load_engine(plan(tmp_path)) as engine:
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


def test_second_batch_of_a_size_is_recorded_and_later_ones_replay_it(monkeypatch, tmp_path):
    machine = install(monkeypatch, SimulatedMachine())
    graphs = []
    with load_engine(plan(tmp_path)) as engine:
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
    with load_engine(plan(tmp_path)) as engine:
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
    assert machine.calls.count("cuStreamBeginCapture_v2") <= 1
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
    with load_engine(plan(tmp_path, dla=0)) as engine:
        list(engine.run_many([IMAGES[:1]] * 4, 2))
    assert "memcpy_htod_async" in machine.calls  # a DLA is not known to read mapped memory
    with load_engine(plan(tmp_path)) as engine:
        engine.use_cuda_graph = False
        list(engine.run_many([IMAGES[:1]] * 4, 2))
    assert not [call for call in machine.calls if call.startswith("cu")]


@pytest.mark.parametrize("further", [None, {"embedding": (5,)}])
def test_gpu_that_shares_the_memory_needs_no_copies(monkeypatch, tmp_path, further):
    machine = install(monkeypatch, SimulatedMachine(is_integrated=True, further=further))
    with load_engine(plan(tmp_path, **({"embedding_size": 5} if further else {}))) as engine:
        first = engine.run(IMAGES[:2])
        outputs = [first, *engine.run_many([IMAGES[2:4], IMAGES[4:6], IMAGES[6:8]], 2)]
        np.testing.assert_allclose(np.concatenate([o.scores for o in outputs]), SCORES[:8], rtol=1e-6)
        engine.use_cuda_graph, engine.time_stages = False, True
        engine.run(IMAGES[:2])
        assert engine.stages() == (0.0, 1.0, 0.0)
    assert not [call for call in machine.calls if "memcpy" in call]
    np.testing.assert_allclose(first.scores, SCORES[:2], rtol=1e-6)  # after the memory was freed
    assert released(machine)


def test_benchmark_reads_host_work_and_stages(monkeypatch, tmp_path):
    machine = install(monkeypatch, SimulatedMachine())
    with load_engine(plan(tmp_path)) as engine:
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


@pytest.mark.parametrize("is_integrated", [False, True])
@pytest.mark.parametrize("tensor", range(3))
def test_failed_allocation_frees_the_earlier_ones(monkeypatch, tmp_path, is_integrated: bool, tensor: int):
    machine = install(monkeypatch, SimulatedMachine(is_integrated=is_integrated))
    name = "pagelocked_empty" if is_integrated else "mem_alloc"
    allocate, made = getattr(machine.driver, name), itertools.count()

    def run_out(*arguments: Any, **options: Any) -> Any:
        if next(made) == tensor:
            raise MemoryError("cuMemAlloc failed: out of memory")
        return allocate(*arguments, **options)

    monkeypatch.setattr(machine.driver, name, run_out)
    monkeypatch.setattr(machine.driver, "Error", (RuntimeError, MemoryError))
    with pytest.raises(EngineError, match="not enough GPU memory for a tensor of shape"):
        load_engine(plan(tmp_path))
    assert released(machine)


FURTHER = {"embedding": (5,), "scale_map_1": (4, 3), "scale_map_2": (2, 1)}


def test_further_outputs_are_copied_from_their_own_buffers(monkeypatch, tmp_path):
    machine = install(monkeypatch, SimulatedMachine(further=FURTHER))
    path = plan(tmp_path, embedding_size=5, scale_sizes=((4, 3), (2, 1)))
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
            load_engine(plan(tmp_path, **changes))
    assert released(machine)


def test_next_run_does_not_change_earlier_outputs(monkeypatch, tmp_path):
    install(monkeypatch, SimulatedMachine())
    with load_engine(plan(tmp_path)) as engine:
        first = engine.run(IMAGES[:1])
        engine.run(IMAGES[1:2])
        np.testing.assert_allclose(first.scores, SCORES[:1], rtol=1e-6)


@pytest.mark.parametrize(("version", "slots"), [("8.5.2.2", 1), ("8.6.1", 2), ("11.0.0", 2)])
def test_batches_in_flight_keep_their_order(monkeypatch, tmp_path, version: str, slots: int):
    machine = install(monkeypatch, SimulatedMachine(version))
    with load_engine(plan(tmp_path, version)) as engine:
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
    with load_engine(plan(tmp_path)) as engine:
        outputs = engine.run_many(itertools.cycle([IMAGES[:2], IMAGES[2:4]]), slots)
        np.testing.assert_allclose(next(outputs).scores, SCORES[:2], rtol=1e-6)
        np.testing.assert_allclose(next(outputs).scores, SCORES[2:4], rtol=1e-6)
        outputs.close()
        assert machine.calls.count("synchronize") == started(machine) == slots + 1
        done = time_batches(engine, IMAGES[:2], slots, 0.01)
        assert machine.calls.count("synchronize") == started(machine)
        assert done.images % (2 * slots) == 0
        np.testing.assert_allclose(engine.run(IMAGES[4:6]).scores, SCORES[4:6], rtol=1e-6)


def test_static_engine_needs_no_input_shape(monkeypatch, tmp_path):
    machine = install(monkeypatch, SimulatedMachine("8.5.2.2", shape=(1, SIZE, SIZE, 3), max_batch=1))
    with load_engine(plan(tmp_path, "8.5.2.2")) as engine:
        assert isinstance(engine, TensorRTEngine)
        outputs = list(engine.run_many((IMAGES[i : i + 1] for i in range(3)), 2))
        np.testing.assert_allclose([float(output.scores[0]) for output in outputs], SCORES[:3], rtol=1e-6)
    assert not [call for call in machine.calls if "shape" in call]
    assert machine.calls.count("create_execution_context") == 2


@pytest.mark.parametrize(
    ("machine", "message"),
    [
        (SimulatedMachine("8.6.1"), "built with TensorRT 10.3.0; the installed 8.6.1 cannot load it"),
        (
            SimulatedMachine(compute_capability=(8, 6)),
            "built for compute capability 7.2, this GPU .simulated GPU. has 8.6",
        ),
        (
            SimulatedMachine(shape=(-1, 9, 9, 3)),
            r"has the tensor image as uint8 \[\?, 9, 9, 3\], its description as uint8 \[\?, 8, 8, 3\]",
        ),
        (SimulatedMachine(map_size=(2, 3)), "has the tensor anomaly_map as float"),
        (SimulatedMachine(kinds={"anomaly_score": "HALF"}), "has the tensor anomaly_score as half"),
        (SimulatedMachine(tensors=("image", "logits")), "has the outputs logits, an anomaly model has"),
        (SimulatedMachine(tensors=("anomaly_map", "anomaly_score")), r"has the inputs \(none\)"),
        (
            SimulatedMachine(tensors=("image", "anomaly_map", "anomaly_score", "logits")),
            "has further outputs",
        ),
    ],
)
def test_unsuitable_engine_is_rejected_and_released(
    monkeypatch, tmp_path, machine: SimulatedMachine, message: str
):
    install(monkeypatch, machine)
    with pytest.raises(EngineError, match=message) as refusal:
        load_engine(plan(tmp_path))
    assert "\n" not in str(refusal.value)
    assert released(machine)


def test_changed_plan_is_rejected_unless_trusted(monkeypatch, tmp_path):
    machine = install(monkeypatch, SimulatedMachine())
    path = plan(tmp_path)
    path.write_bytes(b"a pl")
    with pytest.raises(EngineError, match="truncated or changed"):
        load_engine(path)
    load_engine(path, trust=True).close()
    machine.loads = False
    with pytest.raises(EngineError, match=r"TensorRT 10\.3\.0 cannot load it"):
        load_engine(path, trust=True)
    assert released(machine)


@pytest.mark.parametrize("dla", [None, 0, 1])
def test_engine_runs_on_the_dla_core_that_it_was_built_for(monkeypatch, tmp_path, dla: Optional[int]):
    """TensorRT takes the core from the runtime, not from the plan: unset, it is core 0."""
    machine = install(monkeypatch, SimulatedMachine())
    load_engine(plan(tmp_path, dla=dla)).close()
    assert machine.loaded_on == [dla or 0]


@pytest.mark.parametrize(("dla", "cores"), [(0, 0), (1, 1), (2, 2), (-1, 2)])
def test_missing_dla_core_is_named(monkeypatch, tmp_path, dla: int, cores: int):
    machine = install(monkeypatch, SimulatedMachine(dla_cores=cores))
    with pytest.raises(EngineError, match=f"built for DLA core {dla}, this machine has {cores} DLA core"):
        load_engine(plan(tmp_path, dla=dla))
    assert (machine.loaded_on, machine.heap, machine.contexts_current) == ([], {}, 0)


def test_too_large_batch_and_closed_engine_are_rejected(monkeypatch, tmp_path):
    install(monkeypatch, SimulatedMachine())
    engine = load_engine(plan(tmp_path))
    with pytest.raises(EngineError, match="takes at most 4 images at once, not 5"):
        engine.run(IMAGES[:5])
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="is closed"):
        engine.run(IMAGES[:1])


def test_threads_get_the_results_of_their_own_images(monkeypatch, tmp_path):
    """Loaded, used and closed by different threads; every third thread keeps batches in flight."""
    machine = install(monkeypatch, SimulatedMachine())
    with ThreadPoolExecutor(1) as pool:
        engine = pool.submit(load_engine, plan(tmp_path)).result()

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
    engine = load_engine(plan(tmp_path))
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
    with load_engine(plan(tmp_path)) as engine:
        flight = engine.run_many([IMAGES[i : i + 1] for i in range(6)], 2)
        for number, output in enumerate(flight):
            np.testing.assert_allclose(engine.run(IMAGES[7:9]).scores, SCORES[7:9], rtol=1e-6)
            np.testing.assert_allclose(output.scores, SCORES[number : number + 1], rtol=1e-6)


def test_stages_are_those_of_the_calling_thread(monkeypatch, tmp_path):
    install(monkeypatch, SimulatedMachine())
    with load_engine(plan(tmp_path)) as engine:
        engine.time_stages = True
        engine.run(IMAGES[:1])
        assert engine.stages() is not None
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(engine.stages).result() is None
            pool.submit(engine.run, IMAGES[:1]).result()
        assert engine.stages() is None


def test_failure_on_the_gpu_is_one_line_and_the_engine_still_works(monkeypatch, tmp_path):
    machine = install(monkeypatch, SimulatedMachine())
    with load_engine(plan(tmp_path)) as engine:
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


def test_missing_gpu_and_libraries_are_reported(monkeypatch, tmp_path):
    machine = install(monkeypatch, SimulatedMachine())
    path = plan(tmp_path)

    def no_gpu() -> None:
        raise RuntimeError("cuInit failed: no CUDA-capable device is detected")

    monkeypatch.setattr(machine.driver, "init", no_gpu)
    with pytest.raises(EngineError, match="no NVIDIA GPU can be used here"):
        load_engine(path)
    monkeypatch.setitem(sys.modules, "pycuda.driver", None)
    monkeypatch.setitem(sys.modules, "pycuda", None)
    with pytest.raises((MissingDependencyError, EngineError), match=r"pycuda|CUDA"):
        load_engine(path)
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(MissingDependencyError, match="TensorRT is not installed"):
        load_engine(path)
    old = types.ModuleType("tensorrt")
    old.__dict__["__version__"] = "8.4.1"
    monkeypatch.setitem(sys.modules, "tensorrt", old)
    with pytest.raises(MissingDependencyError, match=r"older than 8\.5"):
        load_engine(path)


# --- calibrators and settings of a build -------------------------------------------------------


class Base:
    """The base class of a calibrator; TensorRT crashes if its constructor was not called."""

    constructed = False

    def __init__(self) -> None:
        self.constructed = True


def release(version: str, **members: Any) -> Release:
    return Release(types.SimpleNamespace(**members), TENSORRT, version)


def test_cache_reader_detects_an_ignored_cache():
    reader = cache_reader(release("8.5.2.2", IInt8EntropyCalibrator2=Base), b"TRT-8502-...")
    assert reader.constructed
    assert (reader.read_calibration_cache(), reader.get_batch_size()) == (b"TRT-8502-...", 1)
    assert not reader.asked_for_data
    assert reader.get_batch(["image"]) is None
    assert reader.asked_for_data


@pytest.mark.parametrize("kind", list(OwnCalibrator))
def test_own_calibrators_copy_each_image_once_as_float(monkeypatch, kind: OwnCalibrator):
    machine = install(monkeypatch, SimulatedMachine())
    fed: List[np.ndarray] = []
    monkeypatch.setattr(
        machine.driver, "memcpy_htod", lambda to, host: fed.append(host.copy()), raising=False
    )
    bases = {name: type(name, (Base,), {}) for name in ("Entropy", "MinMax", "Legacy")}
    installed = release(
        "10.3.0",
        IInt8EntropyCalibrator2=bases["Entropy"],
        IInt8MinMaxCalibrator=bases["MinMax"],
        IInt8LegacyCalibrator=bases["Legacy"],
    )
    machine.push(1)
    calibrator = own_calibrator(installed, kind, IMAGES[:3])
    expected = {"trt-entropy": "Entropy", "trt-minmax": "MinMax", "trt-percentile": "Legacy"}[kind.value]
    assert isinstance(calibrator, bases[expected])
    assert calibrator.constructed
    pointers = [calibrator.get_batch(["image"]) for _ in range(4)]
    assert pointers[:3] == [[int(pointer[0])] for pointer in pointers[:3]]
    assert pointers[3] is None
    np.testing.assert_array_equal(np.concatenate(fed), IMAGES[:3].astype(np.float32))
    calibrator.write_calibration_cache(memoryview(b"cache"))
    assert calibrator.cache == b"cache"
    assert calibrator.read_calibration_cache() is None


class Tensor:
    def __init__(self, name: str, dtype: str = "float32") -> None:
        self.name, self.dtype = name, dtype
        self.range: Any = None

    def set_dynamic_range(self, low: float, high: float) -> None:
        self.range = (low, high)


class Layer:
    def __init__(self, name: str, kind: str, dtype: str = "float32") -> None:
        self.name, self.type = name, types.SimpleNamespace(name=kind)
        self.output, self.num_outputs = Tensor(f"{name}:0", dtype), 1
        self.precision: Any = None
        self.output_type: Any = None

    def get_output(self, position: int) -> Tensor:
        return self.output

    def set_output_type(self, position: int, kind: str) -> None:
        self.output_type = kind


class Network:
    num_inputs = 1

    def __init__(self, layers: List[Layer]) -> None:
        self.layers, self.num_layers = layers, len(layers)
        self.input = Tensor("image", "uint8")

    def get_layer(self, position: int) -> Layer:
        return self.layers[position]

    def get_input(self, position: int) -> Tensor:
        return self.input


TYPES: Dict[str, Any] = {"float16": "float16", "float32": "float32"}


def make_job(**changes: Any) -> Job:
    job = Job(
        runtime="tensorrt",
        model="m",
        plan="p",
        precision=Precision.INT8,
        route=Route.IMPLICIT,
        networks=("conv", "early"),
        half=("early",),
        ranges={"conv:0": 2.0},
        image_size=(SIZE, SIZE),
        max_batch=1,
        compute_capabilities=(),
        dla=None,
        workspace_mb=64,
        lean=False,
        timing_cache=None,
    )
    return dataclasses.replace(job, **changes)


def layers() -> Dict[str, Layer]:
    made = [
        Layer("early", "CONVOLUTION"),
        Layer("conv", "CONVOLUTION"),
        Layer("norm", "REDUCE"),
        Layer("norm_1", "ELEMENTWISE"),
        Layer("constant", "CONSTANT"),
        Layer("index", "GATHER", "int32"),
    ]
    return {layer.name: layer for layer in made}


@pytest.mark.parametrize(
    ("precision", "pins"),
    [
        (Precision.INT8, {"early": "float16", "norm": "float32", "norm_1": "float32"}),
        (Precision.FP16, {"norm": "float32", "norm_1": "float32"}),
        (Precision.FP32, {}),
    ],
)
def test_layers_outside_the_networks_are_pinned(precision: Precision, pins: Dict[str, str]):
    made = layers()
    network = Network(list(made.values()))
    building.pin_precisions(make_job(precision=precision), release("8.5.2.2", **TYPES), network)
    assert {name: layer.precision for name, layer in made.items() if layer.precision} == pins
    assert {name: layer.output_type for name, layer in made.items() if layer.output_type} == pins


def test_ranges_are_set_and_missing_tensors_are_reported():
    made = layers()
    network = Network(list(made.values()))
    building.set_dynamic_ranges(make_job(), release("8.5.2.2"), network)
    assert {name: layer.output.range for name, layer in made.items() if layer.output.range} == {
        "conv": (-2.0, 2.0)
    }
    with pytest.raises(BuildError, match="has no tensor 'ghost'"):
        building.set_dynamic_ranges(make_job(ranges={"ghost": 1.0}), release("8.5.2.2"), network)


class Config:
    def __init__(self) -> None:
        self.calls: List[Any] = []

    def __getattr__(self, name: str) -> Any:
        if name == "can_run_on_DLA":
            return lambda layer: layer.name != "early"
        return lambda *arguments: self.calls.append((name, *arguments))


@pytest.mark.parametrize(("version", "shares"), [("8.5.2.2", False), ("8.6.1", True), ("11.0.0", False)])
def test_settings_depend_on_the_release(version: str, shares: bool):
    trt = {
        "BuilderFlag": types.SimpleNamespace(TF32="TF32", GPU_FALLBACK="GPU_FALLBACK"),
        "PreviewFeature": types.SimpleNamespace(PROFILE_SHARING_0806="sharing"),
    }
    config, reader = Config(), object()
    building.configure(make_job(), release(version, **trt), Network([]), config, reader)
    assert ("clear_flag", "TF32") in config.calls
    assert (("set_preview_feature", "sharing", True) in config.calls) is shares
    assert (config.__dict__.get("int8_calibrator") is reader) is not version.startswith("11")


def test_dla_runs_supported_layers_except_pinned_ones():
    trt = {
        "BuilderFlag": types.SimpleNamespace(TF32="TF32", GPU_FALLBACK="GPU_FALLBACK"),
        "DeviceType": types.SimpleNamespace(DLA="DLA", GPU="GPU"),
    }
    made, config = layers(), Config()
    building.configure(make_job(dla=1), release("8.5.2.2", **trt), Network(list(made.values())), config, None)
    assert (config.__dict__["default_device_type"], config.__dict__["DLA_core"]) == ("DLA", 1)
    assert ("set_flag", "GPU_FALLBACK") in config.calls
    moved = {call[1].name for call in config.calls if call[0] == "set_device_type" and call[2] == "GPU"}
    assert moved == set(made) - {"conv"}


# --- logs and reports of builds -----------------------------------------------------------------------

NO_KERNEL = (
    "[I] Building engine\n"
    "[E] 10: [optimizer.cpp::computeCosts::3628] Error Code 10: Internal Error (Could not find any "
    "implementation for node /student/layer1/layer1.0/conv1/Conv + /student/layer1/layer1.0/relu/Relu.)\n"
    "[!] Invalid Engine. Please ensure the engine was built correctly\n"
)


def test_kinds_of_failure_are_distinguished():
    found = read_failure(NO_KERNEL)
    assert found.kind is FailureKind.NO_IMPLEMENTATION
    assert found.layer == "/student/layer1/layer1.0/conv1/Conv + /student/layer1/layer1.0/relu/Relu"
    assert "\n" not in found.message
    workspace = NO_KERNEL.replace(
        ".)", " due to insufficient workspace. See verbose log for requested sizes.)"
    )
    found = read_failure(workspace)
    assert (found.kind, found.layer) == (
        FailureKind.SMALL_WORKSPACE,
        "/student/layer1/layer1.0/conv1/Conv + /student/layer1/layer1.0/relu/Relu",
    )
    memory = (
        "[E] 2: [virtualMemoryBuffer.cpp::resizePhysical::140] Error Code 2: OutOfMemory (no further info)\n"
    )
    assert read_failure(memory).kind is FailureKind.OUT_OF_MEMORY
    assert read_failure("terminate called after throwing 'std::bad_alloc'").kind is FailureKind.OUT_OF_MEMORY
    driver = "[E] 6: [runtime.cpp] Error Code 6: CUDA initialization failure with error: 35\n"
    assert read_failure(driver).kind is FailureKind.NO_GPU
    assert read_failure("[E] 4: Error Code 4: something new\n") == (FailureKind.OTHER, "something new", None)
    assert read_failure("") == (FailureKind.OTHER, "it printed no message", None)


def test_progress_is_read_from_the_log():
    log = "adq-edge-progress 1 9 Building Engine\n[V] x\nadq-edge-progress 2 9 Tactic Selection\n"
    assert read_progress(log) == ("Tactic Selection", 2, 9)
    assert read_progress("[V] nothing") is None


INSPECTED = """{"Layers": [
 {"Name": "/conv1/Conv", "LayerType": "CaskConvolution",
  "Inputs": [{"Name": "a", "Format/Datatype": "Four wide channel vectorized row major Int8 format"}],
  "Outputs": [{"Name": "b", "Format/Datatype": "Row major linear FP16 format"}]},
 {"Name": "Reformatting", "LayerType": "Reformat",
  "Inputs": [{"Name": "b", "Format/Datatype": "Row major linear FP32"}], "Outputs": []},
 {"Name": "/norm", "LayerType": "Myelin", "Inputs": [{"Name": "b", "Datatype": "Float"}], "Outputs": []},
 {"Name": "{ForeignNode[a...b]}", "LayerType": "DLA",
  "Inputs": [{"Name": "c", "Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format"}],
  "Outputs": []},
 "a name only"], "Bindings": []}"""


def test_layers_of_the_inspector_are_counted():
    found = read_layers(INSPECTED)
    assert [(layer.precision, layer.device) for layer in found] == [
        ("INT8", "GPU"),
        ("FP32", "GPU"),
        ("FP32", "GPU"),
        ("INT8", "DLA"),
        ("unknown", "unknown"),
    ]
    assert count_precisions(found) == {"FP32": 1, "INT8": 2, "unknown": 1, "DLA": 1}
    assert count_kinds(found) == {"CaskConvolution": 1, "DLA": 1, "Myelin": 1, "Reformat": 1, "unknown": 1}
