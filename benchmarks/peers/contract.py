"""The interface between a peer and its worker, for any environment: only standard library and numpy."""

from __future__ import annotations

import abc
import dataclasses
import importlib
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar, Dict, NamedTuple, Optional, Sequence, Tuple, Type

import numpy as np

CALIBRATION = "calibration"
"""Folder of the calibration images: normal images, PNG files of the model's input size."""
VALIDATION = "validation"
"""Folder of test images, `good` and `defect`, without the check images; same size and format."""


class Result(NamedTuple):
    """The anomaly map, float32 `[h, w]`, and the score of one image."""

    anomaly_map: np.ndarray
    score: float


@dataclasses.dataclass(frozen=True)
class Job:
    """The task of a peer.

    Attributes:
        peer: the module of this package that runs it.
        variant: one of the module's variants.
        model: folder of the model: `SCORING.pt` (checkpoint) and `SCORING/` (bundle) for each way to score,
            `weights.pt` (anomalib's names) and `scale.json`.
        images: folder of the images: `CALIBRATION` and `VALIDATION`.
        made: folder for the files of the peer's `prepare`.
        image_size: (height, width) of the model's input.
        threads: CPU threads; the default of the peer if None.
    """

    peer: str
    variant: str
    model: str
    images: str
    made: str
    image_size: Tuple[int, int]
    threads: Optional[int]

    @property
    def calibration(self) -> Sequence[Path]:
        """The calibration images, in order."""
        return sorted((Path(self.images) / CALIBRATION).glob("*.png"))


class Peer(abc.ABC):
    """A loaded contender.

    Attributes:
        needs: required distributions; the first one is the peer itself.
        takes_files: True if it reads encoded files; otherwise only its engine is timed.
    """

    needs: ClassVar[Tuple[str, ...]]
    takes_files = True

    @classmethod  # noqa: B027  # not abstract: many peers have nothing to prepare
    def prepare(cls, job: Job) -> None:
        """Write the files for loading to `job.made` in a process that is not timed; by default none."""

    def __init__(self, job: Job) -> None:
        """Load the engine."""
        self._size = job.image_size

    @abc.abstractmethod
    def feed(self, image: np.ndarray) -> Any:
        """Turn a uint8 `[H, W, 3]` RGB image of the input's size into what the engine takes; not timed."""

    @abc.abstractmethod
    def infer(self, fed: Any) -> Any:
        """Run the engine; timed as `engine only`."""

    @abc.abstractmethod
    def read(self, output: Any) -> Result:
        """Convert the output of `infer` to a result in the units of the FP32 reference; not timed."""

    def predict(self, path: str) -> Any:
        """Return the map, of the input's size, and the score of an encoded file; timed as `end to end`.

        The default is adq-edge's own path, because most peers have none.
        """
        from adq_edge.core.images.imaging import load_image, resize_map

        result = self.read(self.infer(self.feed(load_image(Path(path), self._size))))
        return Result(resize_map(result.anomaly_map, self._size), result.score)


def load_peer(name: str) -> Type[Peer]:
    """Return the peer class of a module."""
    peer: Type[Peer] = importlib.import_module(f"benchmarks.peers.{name}").CONTENDER
    return peer


def versions(distributions: Sequence[str]) -> Dict[str, str]:
    """Return the versions of installed distributions.

    Raises:
        PackageNotFoundError: a distribution is not installed.
    """
    return {name: metadata.version(name) for name in distributions}
