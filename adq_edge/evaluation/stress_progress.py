"""What an interrupted `stress` has done so far, beside its result file."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import time
from pathlib import Path
from typing import Dict, Iterator, Optional, Sequence, Tuple

from adq_edge.core.errors import AdqError, ResultError
from adq_edge.core.files import check_writable, is_stream, storage_errors
from adq_edge.core.records import Record, record
from adq_edge.evaluation.stress_judge import Outcome

_SECONDS_BETWEEN_FILES = 10.0


@dataclasses.dataclass(frozen=True)
class ImageOutcomes:
    """The outcomes of one image.

    Attributes:
        image: the image file.
        engine_scores: the engines' own scores: all states of the image by the first engine, then by the next.
        scores: the scores that decide, in the same order.
        flags: the bits of `OutcomeFlag`, in the same order.
    """

    image: str
    engine_scores: Tuple[float, ...]
    scores: Tuple[float, ...]
    flags: Tuple[int, ...]

    @classmethod
    def of(cls, image: str, outcomes: Sequence[Outcome]) -> ImageOutcomes:
        """Return the outcomes of an image."""
        own, scores, flags = zip(*outcomes)
        return cls(image, tuple(own), tuple(scores), tuple(map(int, flags)))

    @property
    def outcomes(self) -> Tuple[Outcome, ...]:
        """The outcomes."""
        return tuple(map(Outcome, self.engine_scores, self.scores, self.flags))


@record(
    "adq-edge/stress-progress",
    version=1,
    error=ResultError,
    fix="Delete it; stress then starts from the beginning",
)
@dataclasses.dataclass(frozen=True)
class _Progress(Record):
    """The images that were judged so far.

    Attributes:
        key: a hash of all that decides on the outcomes.
        images: the outcomes.
    """

    key: str
    images: Tuple[ImageOutcomes, ...]


class ProgressFile:
    """Keeps the outcomes of images in a file beside the result file until the result is written.

    Args:
        result: the result file; for a device or pipe nothing is kept.
        inputs: all that decides on the outcomes; a file of other inputs is not used.
        states: number of outcomes of an image.

    Attributes:
        done: the outcomes by image file.
    """

    def __init__(self, result: Path, inputs: object, states: int) -> None:
        self._path: Optional[Path] = None if is_stream(result) else result.with_suffix(".progress.json")
        self._key = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode("utf-8")).hexdigest()
        self._written = time.monotonic()
        self.done: Dict[str, ImageOutcomes] = {}
        if self._path is not None:
            check_writable(self._path, _Progress.kind())
            self.done = {one.image: one for one in self._read(self._path) if len(one.flags) == states}

    def _read(self, path: Path) -> Sequence[ImageOutcomes]:
        with storage_errors(path):
            if not path.exists():
                return ()
        with contextlib.suppress(AdqError):  # a damaged file is replaced
            found = _Progress.read(path)
            return found.images if found.key == self._key else ()
        return ()

    def add(self, image: str, outcomes: Sequence[Outcome]) -> None:
        """Add an image, and write the file if that is due."""
        self.done[image] = ImageOutcomes.of(image, outcomes)
        if time.monotonic() - self._written > _SECONDS_BETWEEN_FILES:
            self._write()

    def _write(self) -> None:
        if self._path is not None and self.done:
            _Progress(self._key, tuple(self.done.values())).write(self._path)
        self._written = time.monotonic()

    def remove(self) -> None:
        """Remove the file."""
        if self._path is not None:
            with contextlib.suppress(FileNotFoundError):
                self._path.unlink()

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Write the file if the block is interrupted or fails."""
        try:
            yield
        except BaseException:
            self._write()
            raise
