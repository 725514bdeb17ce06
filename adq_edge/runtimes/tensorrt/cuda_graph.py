"""CUDA graphs by calls of the CUDA driver, which pycuda (2022.1 to 2026.1) lacks.

A graph replays in one call the kernels that a stream recorded. All functions exist since CUDA 11.4, the
release of JetPack 5.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import sys
from typing import Any, Callable, Dict, Sequence

from adq_edge.core.errors import EngineError

_THREAD_LOCAL = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: other threads may use CUDA meanwhile
_POINTER, _OUTPUT = ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p)
_PROTOTYPES: Dict[str, Sequence[Any]] = {
    "cuStreamBeginCapture_v2": (_POINTER, ctypes.c_int),
    "cuStreamEndCapture": (_POINTER, _OUTPUT),
    "cuGraphInstantiateWithFlags": (_OUTPUT, _POINTER, ctypes.c_ulonglong),
    "cuGraphLaunch": (_POINTER, _POINTER),
    "cuGraphDestroy": (_POINTER,),
    "cuGraphExecDestroy": (_POINTER,),
}


class CudaGraphError(EngineError):
    """A call of the driver for a graph failed; the work can be started without a graph."""


class CudaGraph:
    """The recorded work of a stream; the CUDA context must be current in each call.

    Args:
        stream: handle of the stream.
        enqueue: starts the work on the stream; returns False if it fails. During the call the work is only
            recorded.

    Raises:
        CudaGraphError: the driver has no graphs, or the work cannot be recorded.
        Exception: any exception of `enqueue`; the stream no longer records.
    """

    def __init__(self, stream: int, enqueue: Callable[[], bool]) -> None:
        self._driver, self._stream = _load_driver(), stream
        self._executable = ctypes.c_void_p()
        graph = self._record(enqueue)
        try:
            self._call("cuGraphInstantiateWithFlags", ctypes.byref(self._executable), graph, 0)
        finally:
            self._driver["cuGraphDestroy"](graph)

    def launch(self) -> None:
        """Start the recorded work on the stream.

        Raises:
            CudaGraphError: the driver rejects it.
        """
        self._call("cuGraphLaunch", self._executable, self._stream)

    def free(self) -> None:
        """Free the graph; the stream must have ended its work."""
        self._driver["cuGraphExecDestroy"](self._executable)

    def _record(self, enqueue: Callable[[], bool]) -> ctypes.c_void_p:
        graph = ctypes.c_void_p()
        self._call("cuStreamBeginCapture_v2", self._stream, _THREAD_LOCAL)
        try:
            is_recorded = enqueue()
        except BaseException:
            with contextlib.suppress(CudaGraphError):  # the first failure counts
                self._end_recording(graph)
            self._drop(graph)
            raise
        try:
            self._end_recording(graph)
            if not is_recorded:
                raise CudaGraphError("TensorRT cannot record its work")
        except CudaGraphError:
            self._drop(graph)
            raise
        return graph

    def _end_recording(self, graph: ctypes.c_void_p) -> None:
        self._call("cuStreamEndCapture", self._stream, ctypes.byref(graph))

    def _drop(self, graph: ctypes.c_void_p) -> None:
        if graph:
            self._driver["cuGraphDestroy"](graph)

    def _call(self, name: str, *arguments: Any) -> None:
        code = self._driver[name](*arguments)
        if code:
            raise CudaGraphError(f"{name} failed (CUDA error {code})")


@functools.lru_cache(maxsize=None)
def _load_driver() -> Dict[str, Any]:
    """Return the functions of the CUDA driver for graphs by name; each returns an error code, 0 for none."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        functions = {name: driver[name] for name in _PROTOTYPES}
    except (OSError, AttributeError) as error:
        raise CudaGraphError(f"the CUDA driver has no graphs ({error})") from error
    for name, function in functions.items():
        function.argtypes, function.restype = _PROTOTYPES[name], ctypes.c_int
    return functions
