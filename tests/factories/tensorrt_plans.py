"""TensorRT engines of a simulated machine: a plan with its sidecar, and images with known scores."""

from __future__ import annotations

import dataclasses
import platform
import sys
from pathlib import Path
from typing import Any, Optional

import numpy as np
import pytest

from adq_edge.artifacts.bundle import FileReference
from adq_edge.artifacts.sidecar import Sidecar, TensorRTDetails, sidecar_path
from adq_edge.core.files import sha256
from adq_edge.core.options import Precision
from adq_edge.runtimes.tensorrt import cuda_graph, gpu_wait
from factories.recording_tensorrt import SimulatedMachine

SIZE = 8
IMAGES = np.random.default_rng(0).integers(0, 256, (9, SIZE, SIZE, 3), np.uint8)
SCORES = IMAGES.reshape(9, -1).mean(axis=1).astype(np.float32)


def write_plan(
    folder: Path,
    version: str = "10.3.0",
    capability: str = "7.2",
    dla: Optional[int] = None,
    **changes: Any,
) -> Path:
    """Write a plan and its sidecar into a folder; `changes` replace fields of the sidecar."""
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
    """Replace TensorRT, pycuda and the CUDA driver by those of a simulated machine."""
    for name, module in machine.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(cuda_graph, "_load_driver", machine.graph_functions)
    monkeypatch.setattr(gpu_wait, "_set_schedule", machine.set_schedule)
    monkeypatch.setattr(gpu_wait, "_is_set", False)
    return machine


def started(machine: SimulatedMachine) -> int:
    """Return the number of batches that were started, with or without a CUDA graph."""
    return machine.calls.count("execute_async_v3") + machine.calls.count("cuGraphLaunch")


def released(machine: SimulatedMachine) -> bool:
    """Return True if all memory, graphs and contexts of the machine are freed."""
    return (machine.heap, machine.pinned, machine.graphs, machine.contexts_current) == ({}, 0, {}, 0)
