"""The settings that a training's numbers depend on, and whether two trainings agree on them."""

from __future__ import annotations

import dataclasses
import enum
import math
from typing import Any, Dict, Mapping, Optional, Tuple

import torch

from adq_edge.core.errors import AdqError
from adq_edge.models.config import Option


class TrainingPrecision(str, enum.Enum):
    """The number format of the networks' convolutions while training; the loss is always float32."""

    AUTO = "auto"
    """bfloat16 on a CPU with AMX tiles or AVX-512 BF16, where an epoch takes 0.5 to 0.6 of the time;
    float32 elsewhere.

    After equal epochs bfloat16's loss is a few percent higher; two seeds showed no clear difference in AUROC.
    """
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"
    """For CUDA devices older than bfloat16; gradients are scaled so that small ones do not vanish."""

    def uses_bfloat16(self, device: torch.device) -> bool:
        """Return True if the networks run in bfloat16 on `device`."""
        if self is TrainingPrecision.AUTO:
            return device.type == "cpu" and _multiplies_bfloat16()
        return self is TrainingPrecision.BFLOAT16

    def autocast_type(self, device: torch.device) -> Optional[torch.dtype]:
        """Return the number format that the networks run in on `device`; None for float32.

        Raises:
            AdqError: the device cannot train in this format.
        """
        cuda = device.type == "cuda"
        if self is TrainingPrecision.FLOAT16:
            _require(cuda, "--precision", "float16 needs a CUDA device", fix="Take bfloat16 or float32")
            return torch.float16
        if not self.uses_bfloat16(device):
            return None
        supported = not cuda or torch.cuda.is_bf16_supported()
        _require(supported, "--precision", "this GPU has no bfloat16", fix="Take float16 or float32")
        return torch.bfloat16


def _multiplies_bfloat16() -> bool:
    ask = getattr(torch.cpu, "get_capabilities", None)  # torch >= 2.10; before, float32 is never wrong
    can = {} if ask is None else ask()
    return bool(can.get("amx_bf16") or can.get("avx512_bf16"))


class Selection(str, enum.Enum):
    """By what the best epoch is chosen."""

    LOSS = "loss"
    """The lowest loss on the validation split of the normal images."""
    AUROC = "auroc"
    """The highest mean image AUROC on the labelled test images. This looks at the test set: for studies."""


class Decay(str, enum.Enum):
    """How the learning rate falls within a stage."""

    NONE = "none"
    """It does not, as in the methods' papers."""
    COSINE = "cosine"
    """Along half a cosine, from epoch to epoch, to nearly 0 in the stage's last one."""


class Balance(str, enum.Enum):
    """How often an epoch draws an image."""

    NONE = "none"
    """Once: a category counts by the number of its images."""
    CATEGORIES = "categories"
    """As often as makes all categories equal: one of few images is not neglected in a unified model."""


@dataclasses.dataclass(frozen=True)
class TrainingSettings:
    """What a checkpoint says about how it was trained.

    Fields that are left out of comparisons may differ between the parts of one training.

    Attributes:
        arch: the method.
        data: the dataset folder, absolute.
        categories: the categories trained on, together.
        image_size: (height, width) in pixels.
        batch_size: images per step, over all processes together.
        learning_rate: the optimizer's.
        seed: of the student's first weights, of every epoch's order and of the validation split.
        precision: as asked for (`auto` stays `auto`).
        options: the method's options, defaults included.
        validation: part of each category's normal images that is held out, 0 to less than 1.
        select: by what the best epoch is chosen.
        compile: whether torch.compile made the training step.
        decay: how the learning rate falls.
        balance: how often an epoch draws an image.
        epochs: when the training is complete.
        early_stopping: epochs without improvement that end a stage; None never does.
        images: the number of training images, those held out for validation not counted.
        teacher_sha256: of the teacher's file.
        fingerprint: of the names and contents of all images that the numbers depend on.
        teacher: the teacher's file.
    """

    arch: str
    data: str
    categories: Tuple[str, ...]
    image_size: Tuple[int, int]
    batch_size: int
    learning_rate: float
    seed: int
    precision: str
    options: Mapping[str, Option]
    validation: float
    select: str
    compile: bool
    decay: str
    balance: str
    epochs: int = dataclasses.field(compare=False)
    early_stopping: Optional[int] = dataclasses.field(compare=False)
    images: int = 0
    teacher_sha256: str = ""
    fingerprint: str = ""
    teacher: str = dataclasses.field(default="", compare=False)

    def __post_init__(self) -> None:
        _require(self.epochs >= 1, "--epochs", "needs at least 1 epoch")
        _require(self.batch_size >= 1, "--batch-size", "needs at least 1 image")
        rate = self.learning_rate
        _require(rate > 0 and math.isfinite(rate), "--learning-rate", "needs a number above 0")
        _require(self.seed >= 0, "--seed", "needs a number of 0 or more")
        _require(0 <= self.validation < 1, "--validation", "needs a part of 0 to less than 1")
        patience = self.early_stopping
        _require(patience is None or patience >= 1, "--early-stopping", "needs at least 1 epoch")

    def learning_rate_in(self, epoch: int, epochs: int) -> float:
        """Return the learning rate of an epoch (from 1) of a stage of so many epochs."""
        if self.decay == Decay.NONE.value:
            return self.learning_rate
        return self.learning_rate * 0.5 * (1.0 + math.cos(math.pi * (epoch - 1) / epochs))

    def to_dict(self) -> Dict[str, Any]:
        """Return the settings as plain values for a checkpoint."""
        return {**dataclasses.asdict(self), "options": dict(self.options)}

    def difference(self, earlier: Mapping[str, Any]) -> Optional[str]:
        """Name the first setting in which an earlier training (its `to_dict`) differs; None if none does."""
        for field in dataclasses.fields(self):
            asked, made = getattr(self, field.name), earlier.get(field.name)
            if not field.compare or asked == made:
                continue
            if field.name not in earlier:
                return f"an adq-edge that kept no record of {field.name.replace('_', ' ')}"
            if field.name == "fingerprint":
                return "other images (a file's name or content in the dataset has changed)"
            if field.name == "options":
                return _different_option(self.options, made or {})
            return f"{field.name.replace('_', ' ')} {made!r}, not {asked!r}"
        if self.decay != Decay.NONE.value and self.epochs != earlier["epochs"]:
            return f"epochs {earlier['epochs']}, not {self.epochs}, over which its learning rate falls"
        return None


def require_supported(settings: TrainingSettings, device: torch.device) -> None:
    """Check that a device can train with these settings.

    Raises:
        AdqError: it cannot.
    """
    TrainingPrecision(settings.precision).autocast_type(device)
    fits = not settings.compile or device.type == "cuda"
    _require(fits, "--compile", "needs a CUDA device", fix="Leave it out: a CPU trains without it")


def _different_option(asked: Mapping[str, Option], made: Mapping[str, Option]) -> str:
    name = next(name for name in [*asked, *made] if asked.get(name) != made.get(name))
    return f"{name} {made.get(name)!r}, not {asked.get(name)!r}"


def _require(holds: bool, option: str, what: str, fix: Optional[str] = None) -> None:
    if not holds:
        raise AdqError(what, where=option, fix=fix)
