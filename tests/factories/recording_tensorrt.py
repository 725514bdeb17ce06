"""Stand-ins of TensorRT's runtime and of pycuda that record calls and hold callers to the order of them.

They compute one thing: the score of an image is the mean of its bytes, its map is full of it. Data goes the
whole way through made-up device memory, so a wrong address, size or order gives wrong numbers or an error.
"""

from __future__ import annotations

import types
import weakref
from typing import Any, Dict, List, Optional, Tuple

import numpy as np


class Allocation:
    """Device memory; its address is what `int` gives."""

    def __init__(self, size: int, heap: Dict[int, np.ndarray]) -> None:
        self.address = 4096 * (len(heap) + 1) * 1000
        self._heap = heap
        heap[self.address] = np.zeros(size, np.uint8)

    def __int__(self) -> int:
        return self.address

    def free(self) -> None:
        del self._heap[self.address]


class Stand:
    """One made-up machine: a GPU and the TensorRT on it.

    Args:
        version: TensorRT's.
        compute_capability: the GPU's.
        shape: of the engine's input; -1 as the batch makes it dynamic.
        max_batch: of its optimization profile.
        tensors: names of the engine's tensors.
    """

    def __init__(
        self,
        version: str = "10.3.0",
        compute_capability: Tuple[int, int] = (7, 2),
        shape: Tuple[int, ...] = (-1, 8, 8, 3),
        max_batch: int = 4,
        tensors: Tuple[str, ...] = ("image", "anomaly_map", "anomaly_score"),
    ) -> None:
        self.calls: List[str] = []
        self.heap: Dict[int, np.ndarray] = {}
        self.contexts_current = 0
        self.loads = True
        self.shape, self.max_batch, self.tensors = shape, max_batch, tensors
        self.compute_capability = compute_capability
        self.tensorrt = self._tensorrt(version)
        self.driver = self._driver()

    def _tensorrt(self, version: str) -> types.ModuleType:
        module = types.ModuleType("tensorrt")
        stand = self

        class Logger:
            ERROR = 1

            def __init__(self, severity: int) -> None:
                pass

        class Runtime:
            def __init__(self, logger: Logger) -> None:
                pass

            def deserialize_cuda_engine(self, plan: bytes) -> Optional[Engine]:
                assert stand.contexts_current
                return Engine(self) if stand.loads else None

        class Engine:
            def __init__(self, runtime: Runtime) -> None:
                self._runtime = weakref.ref(runtime)
                self.num_io_tensors = len(stand.tensors)
                if version.startswith("8") or version.startswith("10.0"):
                    self.device_memory_size = 1000
                else:
                    self.device_memory_size_v2 = 2000

            def get_tensor_name(self, position: int) -> str:
                return stand.tensors[position]

            def get_tensor_shape(self, name: str) -> Tuple[int, ...]:
                return stand.shape

            def get_tensor_profile_shape(self, name: str, profile: int) -> List[Tuple[int, ...]]:
                return [(count, *stand.shape[1:]) for count in (1, 1, stand.max_batch)]

            def create_execution_context(self) -> Context:
                assert self._runtime() is not None, "the runtime is gone before its engine"
                stand.calls.append("create_execution_context")
                return Context()

        class Context:
            def __init__(self) -> None:
                self.addresses: Dict[str, int] = {}
                self.batch = stand.shape[0]

            def set_tensor_address(self, name: str, address: int) -> bool:
                stand.calls.append(f"set_tensor_address {name}")
                self.addresses[name] = address
                return True

            def set_input_shape(self, name: str, shape: Tuple[int, ...]) -> bool:
                stand.calls.append(f"set_input_shape {shape[0]}")
                self.batch = shape[0]
                return shape[0] <= stand.max_batch

            def execute_async_v3(self, stream: int) -> bool:
                assert stand.contexts_current, "no CUDA context is current"
                assert set(self.addresses) == set(stand.tensors), "an address is missing"
                assert self.batch > 0, "the input has no shape"
                stand.calls.append("execute_async_v3")
                pixels = int(np.prod(stand.shape[1:]))
                images = stand.heap[self.addresses["image"]][: self.batch * pixels].reshape(self.batch, -1)
                scores = images.mean(axis=1).astype(np.float32)
                maps = stand.heap[self.addresses["anomaly_map"]].view(np.float32)
                each = len(maps) // stand.max_batch
                maps[: self.batch * each] = np.repeat(scores, each)
                stand.heap[self.addresses["anomaly_score"]].view(np.float32)[: self.batch] = scores
                return True

        module.__dict__.update(__version__=version, Logger=Logger, Runtime=Runtime)
        return module

    def _driver(self) -> types.ModuleType:
        module = types.ModuleType("pycuda.driver")
        stand = self

        class Context:
            def push(self) -> None:
                stand.contexts_current += 1

            def pop(self) -> None:
                assert not stand.heap, "memory outlives its context"
                stand.contexts_current -= 1

        class Device:
            def __init__(self, number: int) -> None:
                pass

            def retain_primary_context(self) -> Context:
                return Context()

            def compute_capability(self) -> Tuple[int, int]:
                return stand.compute_capability

            def name(self) -> str:
                return "made-up GPU"

        class Stream:
            handle = 7

            def synchronize(self) -> None:
                stand.calls.append("synchronize")

        class Event:
            def record(self, stream: Stream) -> None:
                self.position = len(stand.calls)

            def time_till(self, other: Any) -> float:
                return float(other.position - self.position)

        def copy_in(device: Allocation, host: np.ndarray, stream: Stream) -> None:
            stand.calls.append("memcpy_htod_async")
            flat = host.reshape(-1).view(np.uint8)
            stand.heap[int(device)][: flat.size] = flat

        def copy_out(host: np.ndarray, device: Allocation, stream: Stream) -> None:
            stand.calls.append("memcpy_dtoh_async")
            host.reshape(-1).view(np.uint8)[:] = stand.heap[int(device)][: host.nbytes]

        module.__dict__.update(
            Error=RuntimeError,
            MemoryError=MemoryError,
            Device=Device,
            Stream=Stream,
            Event=Event,
            init=lambda: None,
            pagelocked_empty=np.empty,
            mem_alloc=lambda size: Allocation(size, stand.heap),
            memcpy_htod_async=copy_in,
            memcpy_dtoh_async=copy_out,
        )
        return module

    def modules(self) -> Dict[str, types.ModuleType]:
        """Return what to put into `sys.modules`."""
        package = types.ModuleType("pycuda")
        package.__dict__["driver"] = self.driver
        return {"tensorrt": self.tensorrt, "pycuda": package, "pycuda.driver": self.driver}
