"""A simulated machine with TensorRT and pycuda, which records calls and checks their order.

The score of an image is the mean of its bytes, and so is each value of its map. The data is copied through
simulated device memory, so a wrong address, size or order gives wrong results or an error.
"""

from __future__ import annotations

import types
import weakref
from typing import Any, Dict, List, Optional, Tuple

import numpy as np


class Allocation:
    """Device memory; `int` returns its address."""

    def __init__(self, size: int, heap: Dict[int, np.ndarray]) -> None:
        self.address = 4096 * (len(heap) + 1) * 1000
        self._heap = heap
        heap[self.address] = np.zeros(size, np.uint8)

    def __int__(self) -> int:
        return self.address

    def free(self) -> None:
        del self._heap[self.address]


class SimulatedMachine:
    """A simulated machine: a GPU and its TensorRT.

    Args:
        version: version of TensorRT.
        compute_capability: compute capability of the GPU.
        shape: shape of the engine's input; a batch of -1 is dynamic.
        max_batch: largest batch of the optimization profile.
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
        machine = self

        class Logger:
            ERROR = 1

            def __init__(self, severity: int) -> None:
                pass

        class Runtime:
            def __init__(self, logger: Logger) -> None:
                pass

            def deserialize_cuda_engine(self, plan: bytes) -> Optional[Engine]:
                assert machine.contexts_current
                return Engine(self) if machine.loads else None

        class Engine:
            def __init__(self, runtime: Runtime) -> None:
                self._runtime = weakref.ref(runtime)
                self.num_io_tensors = len(machine.tensors)
                if version.startswith("8") or version.startswith("10.0"):
                    self.device_memory_size = 1000
                else:
                    self.device_memory_size_v2 = 2000

            def get_tensor_name(self, position: int) -> str:
                return machine.tensors[position]

            def get_tensor_shape(self, name: str) -> Tuple[int, ...]:
                return machine.shape

            def get_tensor_profile_shape(self, name: str, profile: int) -> List[Tuple[int, ...]]:
                return [(count, *machine.shape[1:]) for count in (1, 1, machine.max_batch)]

            def create_execution_context(self) -> Context:
                assert self._runtime() is not None, "the runtime was freed before its engine"
                machine.calls.append("create_execution_context")
                return Context()

        class Context:
            def __init__(self) -> None:
                self.addresses: Dict[str, int] = {}
                self.batch = machine.shape[0]

            def set_tensor_address(self, name: str, address: int) -> bool:
                machine.calls.append(f"set_tensor_address {name}")
                self.addresses[name] = address
                return True

            def set_input_shape(self, name: str, shape: Tuple[int, ...]) -> bool:
                machine.calls.append(f"set_input_shape {shape[0]}")
                self.batch = shape[0]
                return shape[0] <= machine.max_batch

            def execute_async_v3(self, stream: int) -> bool:
                assert machine.contexts_current, "no CUDA context is current"
                assert set(self.addresses) == set(machine.tensors), "an address is missing"
                assert self.batch > 0, "the input has no shape"
                machine.calls.append("execute_async_v3")
                pixels = int(np.prod(machine.shape[1:]))
                images = machine.heap[self.addresses["image"]][: self.batch * pixels].reshape(self.batch, -1)
                scores = images.mean(axis=1).astype(np.float32)
                maps = machine.heap[self.addresses["anomaly_map"]].view(np.float32)
                each = len(maps) // machine.max_batch
                maps[: self.batch * each] = np.repeat(scores, each)
                machine.heap[self.addresses["anomaly_score"]].view(np.float32)[: self.batch] = scores
                return True

        module.__dict__.update(__version__=version, Logger=Logger, Runtime=Runtime)
        return module

    def _driver(self) -> types.ModuleType:
        module = types.ModuleType("pycuda.driver")
        machine = self

        class Context:
            def push(self) -> None:
                machine.contexts_current += 1

            def pop(self) -> None:
                assert not machine.heap, "memory was not freed before its context"
                machine.contexts_current -= 1

        class Device:
            def __init__(self, number: int) -> None:
                pass

            def retain_primary_context(self) -> Context:
                return Context()

            def compute_capability(self) -> Tuple[int, int]:
                return machine.compute_capability

            def name(self) -> str:
                return "simulated GPU"

        class Stream:
            handle = 7

            def synchronize(self) -> None:
                machine.calls.append("synchronize")

        class Event:
            def record(self, stream: Stream) -> None:
                self.position = len(machine.calls)

            def time_till(self, other: Any) -> float:
                return float(other.position - self.position)

        def copy_in(device: Allocation, host: np.ndarray, stream: Stream) -> None:
            machine.calls.append("memcpy_htod_async")
            flat = host.reshape(-1).view(np.uint8)
            machine.heap[int(device)][: flat.size] = flat

        def copy_out(host: np.ndarray, device: Allocation, stream: Stream) -> None:
            machine.calls.append("memcpy_dtoh_async")
            host.reshape(-1).view(np.uint8)[:] = machine.heap[int(device)][: host.nbytes]

        module.__dict__.update(
            Error=RuntimeError,
            MemoryError=MemoryError,
            Device=Device,
            Stream=Stream,
            Event=Event,
            init=lambda: None,
            pagelocked_empty=np.empty,
            mem_alloc=lambda size: Allocation(size, machine.heap),
            memcpy_htod_async=copy_in,
            memcpy_dtoh_async=copy_out,
        )
        return module

    def modules(self) -> Dict[str, types.ModuleType]:
        """Return the modules for `sys.modules`."""
        package = types.ModuleType("pycuda")
        package.__dict__["driver"] = self.driver
        return {"tensorrt": self.tensorrt, "pycuda": package, "pycuda.driver": self.driver}
