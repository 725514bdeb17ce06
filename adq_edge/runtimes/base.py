"""What every runtime offers: engines that turn uint8 images into maps and scores."""

from __future__ import annotations

import abc
from pathlib import Path
from types import TracebackType
from typing import Dict, Generator, Iterable, NamedTuple, Optional, Tuple, Type

import numpy as np

from adq_edge.artifacts.sidecar import Sidecar
from adq_edge.core.errors import EngineError


class Output(NamedTuple):
    """What an engine says of a batch of images.

    Attributes:
        maps: anomaly maps, float32 `[N, h, w]`.
        scores: anomaly scores, float32 `[N]`.
    """

    maps: np.ndarray
    scores: np.ndarray


class Stages(NamedTuple):
    """Where the time of a query went on a device with memory of its own, in ms."""

    host_to_device: float
    compute: float
    device_to_host: float


class Engine(abc.ABC):
    """An engine loaded by a runtime; a context manager.

    Attributes:
        path: the engine file.
        sidecar: what is known about it.
        runtime: name of the runtime that runs it here.
        runtime_version: that runtime's version.
        max_batch: number of images that one call takes at most; None for any number.
        is_emulation: True if only its numbers mean something, not its speed.
    """

    runtime: str
    max_batch: Optional[int] = None
    is_emulation = False

    def __init__(self, path: Path, sidecar: Sidecar, runtime_version: str) -> None:
        self.path = path
        self.sidecar = sidecar
        self.runtime_version = runtime_version

    def run(self, images: np.ndarray) -> Output:
        """Score a batch.

        Args:
            images: uint8 `[N, H, W, 3]` RGB, already of the engine's size.

        Raises:
            EngineError: the array has another type or shape.
        """
        return self._run(self.check(images))

    def check(self, images: np.ndarray) -> np.ndarray:
        """Return a batch that the engine takes.

        Raises:
            EngineError: the array has another type or shape.
        """
        height, width = self.sidecar.image_size
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (height, width, 3):
            raise EngineError(
                f"takes uint8 [N, {height}, {width}, 3] images, not {images.dtype} {list(images.shape)}",
                where=self.path,
                fix="Read images with adq_edge.core.imaging.load_image",
            )
        return images

    @property
    def stream_counts(self) -> Tuple[int, ...]:
        """The values of `streams` that `run_many` makes sense with, in rising order."""
        return (1,)

    def run_many(self, batches: Iterable[np.ndarray], streams: int) -> Generator[Output, None, None]:
        """Score batches in order with several of them in work at the same time; for throughput.

        Closed before its end, it leaves the engine idle: no call goes on.

        Args:
            batches: uint8 `[N, H, W, 3]` each, of one size; there may be no end of them.
            streams: how many at the same time; one of `stream_counts`.

        Raises:
            EngineError: a batch has another type or shape, or is too large.
        """
        del streams
        return (self.run(images) for images in batches)

    def stages(self) -> Optional[Stages]:
        """Return where the time of the last `run` went; None where nothing is copied to a device."""
        return None

    def device_memory(self) -> Optional[int]:
        """Return the GPU memory that `run` needs besides the weights, in bytes; None without a GPU."""
        return None

    @abc.abstractmethod
    def _run(self, images: np.ndarray) -> Output:
        """Score a batch that has been checked."""

    @abc.abstractmethod
    def operators(self) -> Dict[str, int]:
        """Count the operators that the runtime really executes, by its own names for them."""

    @abc.abstractmethod
    def close(self) -> None:
        """Release what the engine holds; harmless when called twice."""

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self.close()
