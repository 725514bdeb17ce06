"""TensorRT engines that this machine cannot load, and the DLA core of an engine."""

from __future__ import annotations

import sys
import types
from typing import Optional

import pytest

from adq_edge.core.errors import EngineError, MissingDependencyError
from adq_edge.runtimes.registry import load_engine
from factories.recording_tensorrt import SimulatedMachine
from factories.tensorrt_plans import install, released, write_plan


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
        load_engine(write_plan(tmp_path))
    assert "\n" not in str(refusal.value)
    assert released(machine)


def test_changed_plan_is_rejected_unless_trusted(monkeypatch, tmp_path):
    machine = install(monkeypatch, SimulatedMachine())
    path = write_plan(tmp_path)
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
    load_engine(write_plan(tmp_path, dla=dla)).close()
    assert machine.loaded_on == [dla or 0]


@pytest.mark.parametrize(("dla", "cores"), [(0, 0), (1, 1), (2, 2), (-1, 2)])
def test_missing_dla_core_is_named(monkeypatch, tmp_path, dla: int, cores: int):
    machine = install(monkeypatch, SimulatedMachine(dla_cores=cores))
    with pytest.raises(EngineError, match=f"built for DLA core {dla}, this machine has {cores} DLA core"):
        load_engine(write_plan(tmp_path, dla=dla))
    assert (machine.loaded_on, machine.heap, machine.contexts_current) == ([], {}, 0)


def test_plan_that_a_dla_core_cannot_load_asks_for_a_free_core(monkeypatch, tmp_path):
    machine = install(monkeypatch, SimulatedMachine())
    machine.loads = False
    with pytest.raises(EngineError, match="End other programs that use this DLA core"):
        load_engine(write_plan(tmp_path, dla=0))
    assert released(machine)


def test_missing_gpu_and_libraries_are_reported(monkeypatch, tmp_path):
    machine = install(monkeypatch, SimulatedMachine())
    path = write_plan(tmp_path)

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
