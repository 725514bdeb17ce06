"""The settings that determine the result of quantization-aware training."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Dict, Mapping, Optional, Tuple

from adq_edge.core.errors import AdqError


@dataclasses.dataclass(frozen=True)
class QatSettings:
    """The settings of quantization-aware training that a checkpoint records.

    Attributes:
        checkpoint_sha256: SHA-256 of the initial checkpoint.
        target: the name of the engine's arithmetic.
        data: absolute path of the dataset folder.
        categories: the categories whose images are used for training.
        images: the number of training images.
        fingerprint: the fingerprint of the training images.
        epochs: total number of epochs; the learning rate decreases to 0 over them.
        batch_size: images per step.
        learning_rate: initial learning rate, in levels of the integer grid per step.
        seed: determines the order of images in every epoch.
    """

    checkpoint_sha256: str
    target: str
    data: str
    categories: Tuple[str, ...]
    images: int
    fingerprint: str
    epochs: int
    batch_size: int
    learning_rate: float
    seed: int

    def __post_init__(self) -> None:
        _require(self.epochs >= 1, "--epochs", "needs at least 1 epoch")
        _require(self.batch_size >= 1, "--batch-size", "needs at least 1 image per batch")
        rate = self.learning_rate
        _require(rate > 0 and math.isfinite(rate), "--learning-rate", "needs a number above 0")
        _require(self.seed >= 0, "--seed", "needs a number of 0 or more")

    @property
    def steps(self) -> int:
        """Total number of training steps."""
        return self.epochs * max(1, self.images // self.batch_size)

    def rate(self, step: int) -> float:
        """Return the learning rate of a step; it follows half a cosine from `learning_rate` to 0."""
        return self.learning_rate * 0.5 * (1.0 + math.cos(math.pi * step / self.steps))

    def to_dict(self) -> Dict[str, Any]:
        """Return the settings as plain values for a checkpoint."""
        return dataclasses.asdict(self)

    def difference(self, earlier: Mapping[str, Any]) -> Optional[str]:
        """Return the first setting that differs from an earlier training's `to_dict`; None if all agree."""
        names = {"checkpoint_sha256": "another checkpoint", "fingerprint": "other images"}
        for field in dataclasses.fields(self):
            asked, made = getattr(self, field.name), earlier.get(field.name)
            if asked != made:
                return names.get(field.name, f"{field.name.replace('_', ' ')} {made!r}, not {asked!r}")
        return None


def _require(holds: bool, option: str, what: str) -> None:
    if not holds:
        raise AdqError(what, where=option)
