"""The settings that a training's numbers depend on, and whether two trainings agree on them."""

from __future__ import annotations

import dataclasses
import enum
import math
from typing import Any, Dict, Mapping, Optional, Tuple

import torch

from adq_edge.errors import AdqError


class TrainingPrecision(str, enum.Enum):
    """The number format of the networks' convolutions while training; the loss is always float32."""

    AUTO = "auto"
    """bfloat16 on a CPU with AMX tiles, where an epoch takes half the time or less; float32 elsewhere.

    After equal epochs bfloat16's loss is a few percent higher; two seeds showed no clear difference in AUROC.
    """
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"

    def uses_bfloat16(self, device: torch.device) -> bool:
        """Tell whether the networks run in bfloat16 on `device`."""
        if self is TrainingPrecision.AUTO:
            return device.type == "cpu" and _has_amx()
        return self is TrainingPrecision.BFLOAT16


def _has_amx() -> bool:
    ask = getattr(torch.cpu, "get_capabilities", None)  # torch >= 2.10; before, float32 is never wrong
    return ask is not None and bool(ask().get("amx_bf16"))


@dataclasses.dataclass(frozen=True)
class TrainingSettings:
    """What a checkpoint says about how it was trained.

    Fields that are left out of comparisons may differ between the parts of one training.

    Attributes:
        arch: the method.
        data: the dataset folder, absolute.
        categories: the categories trained on, together.
        images: the number of training images.
        image_size: (height, width) in pixels.
        batch_size: images per step.
        learning_rate: the optimizer's.
        seed: of the student's first weights and of every epoch's order.
        precision: as asked for (`auto` stays `auto`).
        teacher_sha256: of the teacher's file.
        teacher: the teacher's file.
        epochs: when the training is complete.
    """

    arch: str
    data: str
    categories: Tuple[str, ...]
    images: int
    image_size: Tuple[int, int]
    batch_size: int
    learning_rate: float
    seed: int
    precision: str
    teacher_sha256: str
    teacher: str = dataclasses.field(compare=False)
    epochs: int = dataclasses.field(compare=False)

    def __post_init__(self) -> None:
        _require(self.epochs >= 1, "--epochs", "needs at least 1 epoch")
        _require(self.batch_size >= 2, "--batch-size", "BatchNorm needs at least 2 images per batch")
        rate = self.learning_rate
        _require(rate > 0 and math.isfinite(rate), "--learning-rate", "needs a number above 0")
        _require(self.seed >= 0, "--seed", "needs a number of 0 or more")

    def to_dict(self) -> Dict[str, Any]:
        """Return the settings as plain values for a checkpoint."""
        return dataclasses.asdict(self)

    def difference(self, earlier: Mapping[str, Any]) -> Optional[str]:
        """Name the first setting in which an earlier training (its `to_dict`) differs; None if none does."""
        for field in dataclasses.fields(self):
            asked, made = getattr(self, field.name), earlier.get(field.name)
            if field.compare and asked != made:
                return f"{field.name.replace('_', ' ')} {made!r}, not {asked!r}"
        return None


def _require(holds: bool, option: str, what: str) -> None:
    if not holds:
        raise AdqError(what, where=option)
