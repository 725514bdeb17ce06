"""Threads spin or sleep while the GPU works, by ADQ_EDGE_GPU_WAIT."""

from __future__ import annotations

import ctypes
from typing import Any, List

import pytest

from adq_edge.core.errors import EngineError
from adq_edge.runtimes.registry import load_engine
from adq_edge.runtimes.tensorrt import gpu_wait
from adq_edge.runtimes.tensorrt.gpu_wait import WAIT_VARIABLE
from factories.recording_tensorrt import SimulatedMachine
from factories.tensorrt_plans import install, released, write_plan


@pytest.mark.parametrize(("written", "schedule"), [("", 0), ("auto", 0), ("spin", 1), ("block", 4)])
def test_choice_is_made_before_the_first_context(monkeypatch, tmp_path, written: str, schedule: int):
    monkeypatch.setenv(WAIT_VARIABLE, written)
    machine = install(monkeypatch, SimulatedMachine())
    path = write_plan(tmp_path)
    for _ in range(2):  # CUDA takes the choice once
        load_engine(path).close()
    assert machine.schedule == schedule
    assert released(machine)


def test_context_of_another_library_is_reported_in_one_line(monkeypatch, tmp_path):
    monkeypatch.setenv(WAIT_VARIABLE, "spin")
    machine = install(monkeypatch, SimulatedMachine())
    machine.has_context = True
    with pytest.raises(EngineError, match=r"does not take the choice to spin \(error 708\). Load the engine"):
        load_engine(write_plan(tmp_path))


def test_other_values_are_refused(monkeypatch, tmp_path):
    monkeypatch.setenv(WAIT_VARIABLE, "quickly")
    install(monkeypatch, SimulatedMachine())
    with pytest.raises(
        EngineError, match=r"'quickly' is no way to wait for the GPU\. Use one of: auto, spin, block"
    ):
        load_engine(write_plan(tmp_path))


def test_driver_gets_the_handle_of_the_gpu(monkeypatch):
    seen: List[Any] = []

    class Driver:
        def cuDeviceGet(self, place: Any, number: int) -> int:  # noqa: N802 - CUDA's name
            place._obj.value = 7
            return 0

        def cuDevicePrimaryCtxSetFlags_v2(self, handle: Any, flags: Any) -> int:  # noqa: N802
            seen.append((handle.value, flags.value))
            return 0

    monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver())
    assert gpu_wait._set_schedule(0, 1) == 0
    assert seen == [(7, 1)]

    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    with pytest.raises(EngineError, match="the CUDA driver cannot be used"):
        gpu_wait._set_schedule(0, 1)
