"""CUDA through pycuda: one context, and tensors in pinned memory and on the GPU."""

from __future__ import annotations

from typing import Any, Dict, Mapping, NamedTuple, Optional, Tuple

import numpy as np

from adq_edge.core.errors import EngineError, MissingDependencyError
from adq_edge.runtimes.tensorrt.gpu_wait import set_wait

_DEVICE = 0


class Gpu:
    """The primary context of the GPU, which libraries in the process share.

    CUDA needs a current context in each thread that uses the GPU. In a block `with gpu:` this context is
    current in the calling thread. It does not stay current after the block: pycuda aborts a process or thread
    that ends with a current context.

    Raises:
        MissingDependencyError: pycuda is not installed or finds no CUDA.
        EngineError: there is no GPU, or ADQ_EDGE_GPU_WAIT is not possible.
    """

    def __init__(self) -> None:
        self.driver = _driver()
        try:
            self.driver.init()
            set_wait(_DEVICE)
            self._device = self.driver.Device(_DEVICE)
            self._context = self._device.retain_primary_context()
        except self.driver.Error as error:
            raise EngineError(
                f"no NVIDIA GPU can be used here ({error})", fix="Run adq-edge doctor to see what is missing"
            ) from error

    def __enter__(self) -> Gpu:
        self._context.push()
        return self

    def __exit__(self, *error: object) -> None:
        self._context.pop()

    @property
    def compute_capability(self) -> str:
        """Major and minor number of the compute capability, "7.2" for a Xavier."""
        return "{}.{}".format(*self._device.compute_capability())

    @property
    def shares_memory(self) -> bool:
        """True if the GPU can use the memory of the CPU at the same speed, as that of a Jetson."""
        attribute = self.driver.device_attribute
        wanted = (attribute.INTEGRATED, attribute.CAN_MAP_HOST_MEMORY)
        return all(self._device.get_attribute(one) == 1 for one in wanted)

    @property
    def name(self) -> str:
        """Name of the GPU."""
        return str(self._device.name())

    @property
    def memory_mb(self) -> float:
        """Memory of the GPU in MB (10^6 bytes); on a Jetson that of the system."""
        return float(self._device.total_memory() / 1e6)


def _driver() -> Any:
    try:
        import pycuda.driver
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            "pycuda is not installed",
            fix="Install it (on a Jetson ./jetson_setup.sh does): pip install pycuda",
        ) from error
    except (ImportError, OSError) as error:  # libcuda.so is missing
        raise EngineError(
            f"CUDA cannot be used here ({error})", fix="Run adq-edge doctor to see what is missing"
        ) from error
    return pycuda.driver


class Buffer(NamedTuple):
    """A tensor in pinned host memory and on the GPU.

    Attributes:
        host: the array in page-locked host memory, which is copied faster.
        device: the allocation on the GPU; None if the GPU reads and writes `host` itself.
        address: the address for the GPU.
    """

    host: np.ndarray
    device: Optional[Any]
    address: int

    def free(self) -> None:
        """Free the memory; the CUDA context must be current, and `host` must not be used any more."""
        if self.device is not None:
            self.device.free()
        self.host.base.free()  # type: ignore[union-attr] # pycuda's allocation


def allocate(
    gpu: Gpu, tensors: Mapping[str, Tuple[Tuple[int, ...], Any]], is_shared: bool
) -> Dict[str, Buffer]:
    """Allocate tensors in host memory and on the GPU, whose context must be current; all or none.

    Args:
        gpu: the GPU.
        tensors: shape and number format by name.
        is_shared: True for one memory that both use, without copies; see `Gpu.shares_memory`.

    Raises:
        EngineError: there is not enough memory.
    """
    buffers: Dict[str, Buffer] = {}
    try:
        for name, (shape, kind) in tensors.items():
            buffers[name] = _allocate(gpu, shape, kind, is_shared)
    except BaseException:
        for buffer in buffers.values():
            buffer.free()
        raise
    return buffers


def _allocate(gpu: Gpu, shape: Tuple[int, ...], kind: Any, is_shared: bool) -> Buffer:
    try:
        if is_shared:
            host = gpu.driver.pagelocked_empty(shape, kind, mem_flags=gpu.driver.host_alloc_flags.DEVICEMAP)
            return Buffer(host, None, int(host.base.get_device_pointer()))
        host = gpu.driver.pagelocked_empty(shape, kind)
        try:
            device = gpu.driver.mem_alloc(host.nbytes)
        except gpu.driver.Error:
            host.base.free()
            raise
        return Buffer(host, device, int(device))
    except gpu.driver.MemoryError as error:
        raise EngineError(
            f"not enough GPU memory for a tensor of shape {list(shape)}",
            fix="Free some memory, or build with a smaller --max-batch",
        ) from error
