"""Deserializes a plan for the GPU, or for the DLA core that it was built for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Optional, Tuple

from adq_edge.core.errors import EngineError
from adq_edge.core.text import number_of
from adq_edge.runtimes.tensorrt.release import Release

if TYPE_CHECKING:
    import tensorrt

REBUILD = "Build it here from its bundle: adq-edge build BUNDLE"

_FREE_DLA = (
    "End other programs that use this DLA core, which holds 16 parts of engines on a Xavier. Else rebuild: "
    "adq-edge build BUNDLE"
)


def load_plan(
    release: Release, plan: bytes, dla: Optional[int], path: Path
) -> Tuple[tensorrt.ICudaEngine, tensorrt.Runtime]:
    """Return the engine of a plan, and its TensorRT runtime, which must outlive the engine.

    A CUDA context must be current.

    Args:
        release: the installed TensorRT.
        plan: the content of the engine file.
        dla: number of the DLA core; None for an engine without DLA.
        path: the engine file, for messages.

    Raises:
        EngineError: the machine has no such DLA core, or TensorRT cannot load the plan.
    """
    trt = release.trt
    runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
    if dla is not None:
        if not 0 <= dla < runtime.num_DLA_cores:
            here = number_of(runtime.num_DLA_cores, "DLA core")
            raise EngineError(f"built for DLA core {dla}, this machine has {here}", where=path, fix=REBUILD)
        runtime.DLA_core = dla  # before the plan is loaded: TensorRT ignores it later and runs on core 0
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        what = f"{release.runtime.label} {release.version} cannot load it"
        raise EngineError(what, where=path, fix=REBUILD if dla is None else _FREE_DLA)
    return engine, runtime
