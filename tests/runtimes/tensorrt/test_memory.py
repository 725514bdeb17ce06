"""The memory of TensorRT engines: with and without copies, and freed after a failure."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from adq_edge.core.errors import EngineError
from adq_edge.runtimes.registry import load_engine
from factories.recording_tensorrt import SimulatedMachine
from factories.tensorrt_plans import IMAGES, SCORES, install, released, write_plan


@pytest.mark.parametrize("further", [None, {"embedding": (5,)}])
def test_gpu_that_shares_the_memory_needs_no_copies(monkeypatch, tmp_path, further):
    machine = install(monkeypatch, SimulatedMachine(is_integrated=True, further=further))
    with load_engine(write_plan(tmp_path, **({"embedding_size": 5} if further else {}))) as engine:
        first = engine.run(IMAGES[:2])
        outputs = [first, *engine.run_many([IMAGES[2:4], IMAGES[4:6], IMAGES[6:8]], 2)]
        np.testing.assert_allclose(np.concatenate([o.scores for o in outputs]), SCORES[:8], rtol=1e-6)
        engine.use_cuda_graph, engine.time_stages = False, True
        engine.run(IMAGES[:2])
        assert engine.stages() == (0.0, 1.0, 0.0)
    assert not [call for call in machine.calls if "memcpy" in call]
    np.testing.assert_allclose(first.scores, SCORES[:2], rtol=1e-6)  # after the memory was freed
    assert released(machine)


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
        load_engine(write_plan(tmp_path))
    assert released(machine)
