"""The interface of all engines: uint8 images in, anomaly maps and scores out."""

from __future__ import annotations

import abc
import functools
from pathlib import Path
from typing import Callable, ClassVar, Dict, Generator, Iterable, Mapping, NamedTuple, Optional, Tuple

import numpy as np

from adq_edge.artifacts.bundle import EMBEDDING_OUTPUT, MAP_OUTPUT, SCORE_OUTPUT
from adq_edge.artifacts.sidecar import Sidecar
from adq_edge.artifacts.tensors import output_shapes
from adq_edge.core.errors import AdqError, EngineError, first_line
from adq_edge.core.limits import check_threads

_READ_IMAGES = "Read images with load_image of adq_edge.core.images.imaging"
_UINT8, _FLOAT32 = np.dtype(np.uint8), np.dtype(np.float32)


class Output(NamedTuple):
    """The result of an engine for a batch of images.

    Attributes:
        maps: anomaly maps, float32 `[N, h, w]`.
        scores: anomaly scores, float32 `[N]`.
        embeddings: mean deep features of the images, float32 `[N, D]`; None if the engine has no such output.
        scale_maps: the maps that `maps` is made of, float32 `[N, h_k, w_k]`, shallow layers first; empty if
            the engine has no such outputs.
    """

    maps: np.ndarray
    scores: np.ndarray
    embeddings: Optional[np.ndarray] = None
    scale_maps: Tuple[np.ndarray, ...] = ()

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray]) -> Output:
        """Return the result made of arrays by the name of their output, in the order of `Engine.outputs`."""
        first = MAP_OUTPUT, SCORE_OUTPUT, EMBEDDING_OUTPUT
        scale_maps = tuple(array for name, array in arrays.items() if name not in first)
        return cls(arrays[MAP_OUTPUT], arrays[SCORE_OUTPUT], arrays.get(EMBEDDING_OUTPUT), scale_maps)

    @property
    def arrays(self) -> Tuple[np.ndarray, ...]:
        """All arrays, in the order of `Engine.outputs`."""
        embeddings = () if self.embeddings is None else (self.embeddings,)
        return (self.maps, self.scores, *embeddings, *self.scale_maps)


class Stages(NamedTuple):
    """The durations of the stages of a query on a device with memory of its own, in ms."""

    host_to_device: float
    compute: float
    device_to_host: float


class HostWork(NamedTuple):
    """The work of the CPU to start a query on a GPU.

    Attributes:
        enqueue_ms: time until the copies and kernels were started, in ms.
        is_graph: whether a CUDA graph replayed the kernels.
    """

    enqueue_ms: float
    is_graph: bool


class Engine(abc.ABC):
    """An engine loaded by a runtime; a context manager.

    Any number of threads may call one engine. Each result belongs to its caller: no later call changes it.

    Attributes:
        path: the engine file.
        sidecar: the sidecar of the engine file.
        runtime: name of the runtime that runs the engine.
        runtime_version: version of the runtime.
        max_batch: largest number of images in one call; None for any number.
        is_emulation: True if the engine has the results of another runtime, but not its speed.
        fix: what the user can do if the runtime cannot load or run an engine; see `fix_for`.
        time_stages: set to True before a `run` whose `stages` are asked for.
        use_cuda_graph: set to False to start each kernel of a GPU by itself.

    Args:
        path: the engine file.
        sidecar: the sidecar of the engine file.
        threads: number of CPU threads, 1 to 1024; all by default.

    Raises:
        AdqError: an impossible number of threads.
    """

    runtime: str
    runtime_version: str
    max_batch: Optional[int] = None
    is_emulation = False
    time_stages = False
    use_cuda_graph = True
    fix: ClassVar[str] = "Build it again with the installed runtime: adq-edge build BUNDLE"

    def __init__(self, path: Path, sidecar: Sidecar, threads: Optional[int] = None) -> None:
        check_threads(threads)
        self.path = path
        self.sidecar = sidecar
        self.threads = threads

    @classmethod
    def fix_for(cls, sidecar: Sidecar) -> str:
        """Return what the user can do if the runtime cannot load or run the engine of a sidecar."""
        return cls.fix

    @functools.cached_property
    def outputs(self) -> Mapping[str, Tuple[int, ...]]:
        """The shapes of the outputs of an image by name, as the sidecar describes them (`output_shapes`)."""
        return output_shapes(self.sidecar)

    def run(self, images: np.ndarray) -> Output:
        """Score a batch.

        Args:
            images: uint8 `[N, H, W, 3]` RGB, already of the engine's size.

        Raises:
            EngineError: the array has another type or shape, or the runtime cannot run the engine.
        """
        return self.run_checked(self._run, self.check(images))

    def run_checked(self, score: Callable[[np.ndarray], Output], images: np.ndarray) -> Output:
        """Return the output of a function of the runtime after a check of its types and shapes.

        Args:
            score: the function; it may raise any exception of the runtime library.
            images: a batch that has been checked.

        Raises:
            EngineError: the function failed, or its output is not as the sidecar describes it.
        """
        try:
            output = score(images)
        except AdqError:
            raise
        except Exception as error:  # the exceptions of runtime libraries have no common base class
            raise explain(error, "cannot run it", self.path, self.fix_for(self.sidecar)) from error
        arrays = output.arrays
        if len(arrays) != len(self.outputs):
            what = f"gives {len(arrays)} outputs, its sidecar describes {', '.join(self.outputs)}"
            raise EngineError(what, where=self.path, fix=Engine.fix)
        for array, (name, shape) in zip(arrays, self.outputs.items()):
            if array.dtype != _FLOAT32 or array.shape != (len(images), *shape):
                found = f"{array.dtype} {list(array.shape)}"
                wanted = f"float32 {[len(images), *shape]}"
                what = f"gives {name} of {found}, its sidecar describes {wanted}"
                raise EngineError(what, where=self.path, fix=Engine.fix)
        return output

    def check(self, images: np.ndarray) -> np.ndarray:
        """Return a batch after a check of its type and shape.

        Raises:
            EngineError: the array has another type or shape.
        """
        height, width = self.sidecar.image_size
        kind, shape = getattr(images, "dtype", None), getattr(images, "shape", ())
        if kind != _UINT8 or len(shape) != 4 or shape[1:] != (height, width, 3):
            given = f"{kind} {list(shape)}" if kind else type(images).__name__
            what = f"takes uint8 [N, {height}, {width}, 3] images, not {given}"
            raise EngineError(what, where=self.path, fix=_READ_IMAGES)
        if not len(images):
            raise EngineError("got a batch without images", where=self.path, fix="Give at least one image")
        return images

    @property
    def stream_counts(self) -> Tuple[int, ...]:
        """The useful numbers of streams for `run_many`, in rising order."""
        return (1,)

    def run_many(self, batches: Iterable[np.ndarray], streams: int) -> Generator[Output, None, None]:
        """Score batches in order, several of them at the same time; for throughput.

        When the generator is closed early, all calls of the engine have ended.

        Args:
            batches: uint8 `[N, H, W, 3]` each, of one size; the number of batches may be unlimited.
            streams: number of batches at the same time; one of `stream_counts`.

        Raises:
            EngineError: a batch has another type or shape, or is too large.
        """
        del streams
        return (self.run(images) for images in batches)

    def stages(self) -> Optional[Stages]:
        """Return the durations of the stages of the last `run`.

        None if `time_stages` was not set, if nothing is copied to a device, or if another thread has called
        `run` since.
        """
        return None

    def host_work(self) -> Optional[HostWork]:
        """Return the work of the CPU to start the last `run` on a GPU; None without a GPU."""
        return None

    def device_memory(self) -> Optional[int]:
        """Return the GPU memory of `run` in bytes, weights excluded; None without a GPU."""
        return None

    @abc.abstractmethod
    def _run(self, images: np.ndarray) -> Output:
        """Score a batch that has been checked; called by any number of threads at the same time."""

    @abc.abstractmethod
    def operators(self) -> Dict[str, int]:
        """Count the operators that the runtime executes, by the names that the runtime gives them."""

    @abc.abstractmethod
    def close(self) -> None:
        """Release the engine's memory once running calls have ended; a second call has no effect."""

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def explain(error: Exception, what: str, path: Path, fix: str) -> EngineError:
    """Return the error of one line for an exception of a runtime library.

    Args:
        error: the exception.
        what: what the runtime cannot do.
        path: the engine file.
        fix: what the user can do.
    """
    return EngineError(f"{what} ({first_line(error)})", where=path, fix=fix)
