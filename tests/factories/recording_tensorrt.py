"""A simulated machine with TensorRT and pycuda, which records calls and checks their order and threads.

The score of an image is the mean of its bytes, and so is each value of its map. Values of the further outputs
are larger, by 1 for the first, by 2 for the second, and so on. The data is copied through simulated device
memory, so a wrong address, size or order gives wrong results or an error. As with the real ones, a CUDA
context is current only in a thread that pushed it, and copies and computations take place after the call that
starts them, at the latest when their stream is synchronized.
"""

from __future__ import annotations

import threading
import time
import types
import weakref
from typing import Any, Callable, Dict, List, Optional, Tuple

import numpy as np


class Allocation:
    """Device memory; `int` returns its address."""

    def __init__(
        self, size: int, heap: Dict[int, np.ndarray], check_thread: Callable[[], None] = lambda: None
    ) -> None:
        self.address = 4096 * 1000 + max(heap, default=0)
        self._heap, self._check_thread = heap, check_thread
        check_thread()
        heap[self.address] = np.zeros(size, np.uint8)

    def __int__(self) -> int:
        return self.address

    def free(self) -> None:
        self._check_thread()
        del self._heap[self.address]


class HostAllocation:
    """Page-locked memory, the base of an array; on request with an address for the GPU."""

    def __init__(self, machine: SimulatedMachine, shape: Tuple[int, ...], kind: Any, is_mapped: bool) -> None:
        machine.check_thread()
        self._machine, self._data = machine, np.zeros(shape, kind)
        self.__array_interface__ = self._data.__array_interface__
        self._device = Allocation(0, machine.heap) if is_mapped else None
        if self._device is not None:
            machine.heap[int(self._device)] = self._data.reshape(-1).view(np.uint8)
        machine.pinned += 1

    def get_device_pointer(self) -> int:
        assert self._device is not None, "this memory is not mapped"
        return int(self._device)

    def free(self) -> None:
        self._machine.check_thread()
        self._machine.pinned -= 1
        if self._device is not None:
            self._device.free()


class SimulatedMachine:
    """A simulated machine: a GPU and its TensorRT.

    Args:
        version: version of TensorRT.
        compute_capability: compute capability of the GPU.
        shape: shape of the engine's input; a batch of -1 is dynamic.
        max_batch: largest batch of the optimization profile.
        tensors: names of the engine's tensors.
        kinds: number formats of tensors, by TensorRT's names, where they are not the usual ones.
        map_size: (height, width) of the anomaly maps.
        further: shapes of further outputs by name, without the axis of images.
        dla_cores: number of DLA cores.
        is_integrated: True for a GPU that shares the memory of the CPU, as that of a Jetson.
        graph_fault: function of the CUDA driver that fails, or "execute_async_v3" for a TensorRT that cannot
            be recorded; None for working CUDA graphs.

    Attributes:
        loaded_on: the DLA core of the runtime when each plan was loaded; 0 if it was not set before.
        pinned: number of allocations of page-locked memory.
        graphs: live graphs, recorded ones and executable ones.
        recording: the stream that records its work.
        events: number of events that were recorded.
        schedule: how a thread waits for the GPU, set before the first context; 0 for CUDA's own choice.
    """

    def __init__(
        self,
        version: str = "10.3.0",
        compute_capability: Tuple[int, int] = (7, 2),
        shape: Tuple[int, ...] = (-1, 8, 8, 3),
        max_batch: int = 4,
        tensors: Tuple[str, ...] = ("image", "anomaly_map", "anomaly_score"),
        kinds: Optional[Dict[str, str]] = None,
        map_size: Tuple[int, int] = (2, 2),
        further: Optional[Dict[str, Tuple[int, ...]]] = None,
        dla_cores: int = 2,
        is_integrated: bool = False,
        graph_fault: Optional[str] = None,
    ) -> None:
        self.calls: List[str] = []
        self.heap: Dict[int, np.ndarray] = {}
        self.streams: Dict[int, List[Callable[[], None]]] = {}
        self.kinds = {"image": "UINT8", **(kinds or {})}
        self.further = further or {}
        self.sizes = {"image": shape[1:], "anomaly_map": map_size, **self.further}
        self._pushed = threading.local()
        self._pushes = 0
        self.loads = True
        self.dla_cores = dla_cores
        self.loaded_on: List[int] = []
        self.is_integrated, self.graph_fault = is_integrated, graph_fault
        self.pinned = self.events = self.schedule = 0
        self.has_context = False
        self.graphs: Dict[int, Any] = {}
        self.recording: Optional[int] = None
        self._recorded: List[Any] = []
        self.shape, self.max_batch, self.tensors = shape, max_batch, (*tensors, *self.further)
        self.compute_capability = compute_capability
        self.tensorrt = self._tensorrt(version)
        self.driver = self._driver()

    @property
    def contexts_current(self) -> int:
        """The number of contexts that are current, in all threads."""
        return self._pushes

    def push(self, change: int) -> None:
        """Push a context in the calling thread, or pop one with -1."""
        self._pushed.count = getattr(self._pushed, "count", 0) + change
        self._pushes += change
        assert self._pushed.count >= 0, "a context was popped by a thread that did not push it"

    def check_thread(self) -> None:
        """Fail as CUDA does in a thread without a context."""
        assert getattr(self._pushed, "count", 0), "no CUDA context is current in this thread"

    def shape_of(self, name: str) -> Tuple[int, ...]:
        """Return the shape of a tensor of the engine."""
        return (self.shape[0], *self.sizes.get(name, ()))

    def _tensorrt(self, version: str) -> types.ModuleType:
        module = types.ModuleType("tensorrt")
        machine = self

        class Logger:
            ERROR = 1

            def __init__(self, severity: int) -> None:
                pass

        class Runtime:
            def __init__(self, logger: Logger) -> None:
                self.DLA_core, self.num_DLA_cores = 0, machine.dla_cores

            def deserialize_cuda_engine(self, plan: bytes) -> Optional[Engine]:
                machine.check_thread()
                machine.loaded_on.append(self.DLA_core)
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
                return machine.shape_of(name)

            def get_tensor_dtype(self, name: str) -> Any:
                return types.SimpleNamespace(name=machine.kinds.get(name, "FLOAT"))

            def get_tensor_profile_shape(self, name: str, profile: int) -> List[Tuple[int, ...]]:
                return [(count, *machine.shape[1:]) for count in (1, 1, machine.max_batch)]

            def create_execution_context(self) -> Context:
                machine.check_thread()
                assert self._runtime() is not None, "the runtime was freed before its engine"
                machine.calls.append("create_execution_context")
                return Context()

        class Context:
            def __init__(self) -> None:
                self.addresses: Dict[str, int] = {}
                self.batch = machine.shape[0]
                self.is_running = self.has_run = False

            def set_tensor_address(self, name: str, address: int) -> bool:
                machine.calls.append(f"set_tensor_address {name}")
                self.addresses[name] = address
                return True

            def set_input_shape(self, name: str, shape: Tuple[int, ...]) -> bool:
                machine.calls.append(f"set_input_shape {shape[0]}")
                self.batch = shape[0]
                return shape[0] <= machine.max_batch

            def execute_async_v3(self, stream: int) -> bool:
                machine.check_thread()
                assert not self.is_running, "the context runs another batch"
                assert set(self.addresses) == set(machine.tensors), "an address is missing"
                assert self.batch > 0, "the input has no shape"
                if machine.recording is not None:
                    return self._record(stream)
                machine.calls.append("execute_async_v3")
                self.is_running = self.has_run = True
                machine.streams[stream].append(self._compute)
                return True

            def _record(self, stream: int) -> bool:
                assert stream == machine.recording, "another stream records"
                assert self.has_run, "TensorRT prepares a context in its first run, which cannot be recorded"
                machine._recorded.append((self, self.batch))
                return machine.graph_fault != "execute_async_v3"

            def replay(self, stream: int, batch: int) -> None:
                assert not self.is_running, "the context runs another batch"
                assert self.batch == batch, "the graph is of another batch size"
                self.is_running = True
                machine.streams[stream].append(self._compute)

            def _compute(self) -> None:
                pixels = int(np.prod(machine.shape[1:]))
                images = machine.heap[self.addresses["image"]][: self.batch * pixels].reshape(self.batch, -1)
                scores = images.mean(axis=1).astype(np.float32)
                for name in machine.tensors[1:]:
                    values = machine.heap[self.addresses[name]].view(np.float32)
                    each = len(values) // machine.max_batch
                    values[: self.batch * each] = np.repeat(scores, each)
                    if name in machine.further:
                        values += 1 + list(machine.further).index(name)
                self.is_running = False

        module.__dict__.update(__version__=version, Logger=Logger, Runtime=Runtime)
        return module

    def set_schedule(self, device: int, schedule: int) -> int:
        """Set how a thread waits for the GPU; CUDA rejects it while there is a context."""
        if self.has_context:
            return 708
        self.schedule = schedule
        return 0

    def graph_functions(self) -> Dict[str, Callable[..., int]]:
        """Return the functions of the CUDA driver for graphs; arguments and error codes are those of CUDA."""

        def add(place: Any, content: Any) -> None:
            place._obj.value = 100 + max(self.graphs, default=0)
            self.graphs[place._obj.value] = content

        def begin(stream: int, mode: int) -> None:
            assert not self.streams[stream], "the stream still has work"
            self.recording, self._recorded = stream, []

        def end(stream: int, graph: Any) -> None:
            assert self.recording == stream, "the stream does not record"
            self.recording = None
            add(graph, list(self._recorded))

        def launch(executable: Any, stream: int) -> None:
            for context, batch in self.graphs[executable.value]:
                context.replay(stream, batch)

        functions = {
            "cuStreamBeginCapture_v2": begin,
            "cuStreamEndCapture": end,
            "cuGraphInstantiateWithFlags": lambda place, graph, flags: add(place, self.graphs[graph.value]),
            "cuGraphLaunch": launch,
            "cuGraphDestroy": lambda graph: self.graphs.pop(graph.value),
            "cuGraphExecDestroy": lambda executable: self.graphs.pop(executable.value),
        }

        def wrap(name: str, function: Callable[..., Any]) -> Callable[..., int]:
            def call(*arguments: Any) -> int:
                self.check_thread()
                self.calls.append(name)
                if name == "cuStreamEndCapture" and name == self.graph_fault:
                    self.recording = None  # CUDA ends the recording in any case
                if name == self.graph_fault:
                    return 900
                function(*arguments)
                return 0

            return call

        return {name: wrap(name, function) for name, function in functions.items()}

    def _driver(self) -> types.ModuleType:
        module = types.ModuleType("pycuda.driver")
        machine = self

        class Context:
            def push(self) -> None:
                machine.push(1)

            def pop(self) -> None:
                machine.push(-1)

        class Device:
            def __init__(self, number: int) -> None:
                pass

            def retain_primary_context(self) -> Context:
                machine.has_context = True
                return Context()

            def compute_capability(self) -> Tuple[int, int]:
                return machine.compute_capability

            def name(self) -> str:
                return "simulated GPU"

            def get_attribute(self, attribute: str) -> int:
                # A graphics card maps host memory as well, but reads it across the bus.
                return {"INTEGRATED": int(machine.is_integrated), "CAN_MAP_HOST_MEMORY": 1}[attribute]

        class Stream:
            def __init__(self) -> None:
                machine.check_thread()
                self.handle = len(machine.streams) + 7
                machine.streams[self.handle] = []

            def synchronize(self) -> None:
                machine.check_thread()
                machine.calls.append("synchronize")
                queued = machine.streams[self.handle]
                while queued:
                    time.sleep(1e-6)  # other threads run meanwhile
                    queued.pop(0)()

        class Event:
            def record(self, stream: Stream) -> None:
                machine.check_thread()
                machine.events += 1
                self.position = len(machine.calls)

            def time_till(self, other: Any) -> float:
                machine.check_thread()
                return float(other.position - self.position)

        def copy_in(device: Allocation, host: np.ndarray, stream: Stream) -> None:
            machine.check_thread()
            machine.calls.append("memcpy_htod_async")

            def copy() -> None:
                flat = host.reshape(-1).view(np.uint8)
                machine.heap[int(device)][: flat.size] = flat

            machine.streams[stream.handle].append(copy)

        def copy_out(host: np.ndarray, device: Allocation, stream: Stream) -> None:
            machine.check_thread()
            machine.calls.append("memcpy_dtoh_async")

            def copy() -> None:
                host.reshape(-1).view(np.uint8)[:] = machine.heap[int(device)][: host.nbytes]

            machine.streams[stream.handle].append(copy)

        module.__dict__.update(
            Error=RuntimeError,
            MemoryError=MemoryError,
            Device=Device,
            Stream=Stream,
            Event=Event,
            init=lambda: None,
            host_alloc_flags=types.SimpleNamespace(DEVICEMAP=2),
            device_attribute=types.SimpleNamespace(
                INTEGRATED="INTEGRATED", CAN_MAP_HOST_MEMORY="CAN_MAP_HOST_MEMORY"
            ),
            pagelocked_empty=lambda shape, kind, mem_flags=0: np.asarray(
                HostAllocation(machine, shape, kind, mem_flags == 2)
            ),
            mem_alloc=lambda size: Allocation(size, machine.heap, machine.check_thread),
            memcpy_htod_async=copy_in,
            memcpy_dtoh_async=copy_out,
        )
        return module

    def modules(self) -> Dict[str, types.ModuleType]:
        """Return the modules for `sys.modules`."""
        package = types.ModuleType("pycuda")
        package.__dict__["driver"] = self.driver
        return {"tensorrt": self.tensorrt, "pycuda": package, "pycuda.driver": self.driver}
