"""Host time of one TensorRT query: the cost of Python and numpy besides the GPU.

    python -m benchmarks.tensorrt_host [--queries 20000]

The engine class is the real one. TensorRT and pycuda are the test doubles, without the work of a GPU. The
rest is host work: checks, the copy into pinned memory, the calls, the copies of the outputs. Writes
benchmarks/published/tensorrt_host.json and .md.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from adq_edge.artifacts.bundle import FileReference
from adq_edge.artifacts.engine_file import EngineFile
from adq_edge.artifacts.sidecar import Sidecar, TensorRTDetails
from adq_edge.core.options import Precision
from adq_edge.hardware.environment import read_environment
from adq_edge.runtimes.tensorrt.engine import TensorRTEngine
from benchmarks.published import publish
from factories.recording_tensorrt import SimulatedMachine

SIZE, MAP_SIZE, VERSION = 256, 64, "10.3.0"


def nothing(*arguments: Any) -> bool:
    """Return at once, like an asynchronous call."""
    return True


def open_engine(folder: Path) -> TensorRTEngine:
    """Open the real engine class with test doubles that do no work."""
    machine = SimulatedMachine(VERSION, shape=(1, SIZE, SIZE, 3), max_batch=1, map_size=(MAP_SIZE, MAP_SIZE))
    machine.driver.__dict__.update(memcpy_htod_async=nothing, memcpy_dtoh_async=nothing)
    for name, module in machine.modules().items():
        sys.modules[name] = module
    path = folder / "stand_in.plan"
    path.write_bytes(b"a plan")
    sidecar = Sidecar(
        name="stand-in",
        runtime="tensorrt",
        runtime_version=VERSION,
        device="cuda",
        machine=platform.machine(),
        precision=Precision.INT8,
        arch="stfpm",
        image_size=(SIZE, SIZE),
        map_size=(MAP_SIZE, MAP_SIZE),
        engine_sha256="",
        model=FileReference("", ""),
        operators={},
        calibration=None,
        threshold=None,
        data=None,
        tensorrt=TensorRTDetails("explicit", "7.2", 1, None, None, (), 64, 0.0, None, ()),
    )
    engine = TensorRTEngine(EngineFile(path, None), sidecar)
    engine.use_cuda_graph = False  # a real driver would reject the stand-ins
    slot = engine._idle[0]
    slot._context.__class__.execute_async_v3 = nothing
    slot._stream.__class__.synchronize = nothing
    return engine


def main() -> None:
    """Time queries and publish the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--queries", type=int, default=20000)
    options = parser.parse_args()
    image = np.random.default_rng(0).integers(0, 256, (1, SIZE, SIZE, 3), np.uint8)
    durations = np.empty(options.queries)
    with tempfile.TemporaryDirectory() as folder, open_engine(Path(folder)) as engine:
        for query in range(-1000, options.queries):
            start = time.perf_counter_ns()
            engine.run(image)
            if query >= 0:
                durations[query] = (time.perf_counter_ns() - start) / 1e3
    p50, p90, p99 = np.percentile(durations, [50, 90, 99])
    publish(
        "tensorrt_host",
        f"Host time of one TensorRT query of {SIZE}x{SIZE} pixels, with test doubles that compute nothing",
        ["queries", "p50 us", "p90 us", "p99 us"],
        [[str(options.queries), f"{p50:.1f}", f"{p90:.1f}", f"{p99:.1f}"]],
        {"queries": options.queries, "p50_us": p50, "p90_us": p90, "p99_us": p99},
        read_environment(),
    )


if __name__ == "__main__":
    main()
