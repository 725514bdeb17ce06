"""Queries the TensorRT and the GPU of this machine in a worker process: a CUDA context takes 100 MB."""

from __future__ import annotations

import dataclasses

from adq_edge.core.errors import EngineError
from adq_edge.core.worker import WorkerError, serve, start_worker
from adq_edge.runtimes.tensorrt.release import load_release

_TIMEOUT_SECONDS = 120.0


@dataclasses.dataclass(frozen=True)
class Probe:
    """The TensorRT and the GPU of this machine.

    Attributes:
        version: version of TensorRT.
        gpu: name of the GPU.
        compute_capability: compute capability of the GPU, "7.2" for a Xavier.
        memory_mb: memory of the GPU in MB (10^6 bytes); on a Jetson that of the system.
        dla_cores: number of deep learning accelerators.
    """

    version: str
    gpu: str
    compute_capability: str
    memory_mb: float
    dla_cores: int


def probe() -> Probe:
    """Return the TensorRT and the GPU of this machine.

    Raises:
        EngineError: no GPU that TensorRT can use.
        MissingDependencyError: TensorRT or pycuda is not installed.
    """
    with start_worker(__name__, "the GPU query") as worker:
        try:
            return worker.call(query_gpu, timeout=_TIMEOUT_SECONDS)
        except WorkerError as error:
            raise EngineError(error.what, fix="Run adq-edge doctor to see what is missing") from None


def query_gpu() -> Probe:
    """Query TensorRT and the GPU within this process; errors as of `probe`."""
    from adq_edge.runtimes.tensorrt.cuda import Gpu

    release = load_release()
    with Gpu() as gpu:
        trt = release.trt
        builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
        return Probe(
            release.version, gpu.name, gpu.compute_capability, gpu.memory_mb, int(builder.num_DLA_cores)
        )


if __name__ == "__main__":
    serve(query_gpu)
