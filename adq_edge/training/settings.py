"""The settings of a training, and their comparison with those of an earlier run."""

from __future__ import annotations

import dataclasses
import enum
import math
from typing import Any, Dict, Mapping, Optional, Tuple

import torch

from adq_edge.core.errors import AdqError
from adq_edge.core.images.sizes import check_size
from adq_edge.models.config import Option


class TrainingPrecision(str, enum.Enum):
    """The number format of the networks' convolutions during training; the loss is always float32."""

    AUTO = "auto"
    """bfloat16 on a CPU with AMX tiles or AVX-512 BF16, where it shortens an epoch to 0.5 to 0.6 of
    the time; float32 elsewhere.

    After as many epochs, bfloat16's loss is a few percent higher; two seeds showed no clear change in AUROC.
    """
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"
    """For CUDA devices without bfloat16; gradients are scaled so that small ones do not vanish."""

    def uses_bfloat16(self, device: torch.device) -> bool:
        """Return True if the networks run in bfloat16 on `device`."""
        if self is TrainingPrecision.AUTO:
            return device.type == "cpu" and _multiplies_bfloat16()
        return self is TrainingPrecision.BFLOAT16

    def autocast_type(self, device: torch.device) -> Optional[torch.dtype]:
        """Return the number format of the networks on `device`; None for float32.

        Raises:
            AdqError: the device cannot train in this format.
        """
        cuda = device.type == "cuda"
        if self is TrainingPrecision.FLOAT16:
            _require(cuda, "--precision", "float16 needs a CUDA device", fix="Use bfloat16 or float32")
            return torch.float16
        if not self.uses_bfloat16(device):
            return None
        supported = not cuda or torch.cuda.is_bf16_supported()
        _require(supported, "--precision", "this GPU has no bfloat16", fix="Use float16 or float32")
        return torch.bfloat16


def _multiplies_bfloat16() -> bool:
    get_capabilities = getattr(torch.cpu, "get_capabilities", None)  # torch >= 2.10
    capabilities = {} if get_capabilities is None else get_capabilities()
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))


class Selection(str, enum.Enum):
    """The criterion that selects the best epoch."""

    LOSS = "loss"
    """The lowest loss on the validation split of the normal images."""
    AUROC = "auroc"
    """The highest mean image AUROC on the labeled test images. It uses the test set: for studies only."""


class Decay(str, enum.Enum):
    """The decrease of the learning rate within a stage."""

    NONE = "none"
    """Constant, as in the methods' papers."""
    COSINE = "cosine"
    """Half a cosine over the stage's epochs, to nearly 0 in the last one."""


class Balance(str, enum.Enum):
    """How often an epoch draws each image."""

    NONE = "none"
    """Once: a category's weight is its number of images."""
    CATEGORIES = "categories"
    """Equally often per category, so that a unified model does not neglect one with few images."""


@dataclasses.dataclass(frozen=True)
class TrainingSettings:
    """The settings that a checkpoint was trained with.

    Fields with `compare=False` may differ when a training is resumed.

    Attributes:
        arch: the method.
        data: the dataset folder, absolute.
        categories: the names of the categories trained on together.
        image_size: (height, width) in pixels.
        batch_size: images per step, over all processes.
        learning_rate: the optimizer's initial learning rate.
        seed: random seed of the initial weights, the order of images and the validation split.
        precision: the requested `TrainingPrecision` (`auto` stays `auto`).
        options: the method's options, including defaults.
        validation: fraction of each category's normal images held out, 0 to below 1.
        select: the `Selection` of the best epoch.
        compile: True if torch.compile compiles the training step.
        decay: the `Decay` of the learning rate.
        balance: the `Balance` of categories.
        epochs: number of epochs, before each stage takes its share.
        early_stopping: epochs without improvement that end a stage; None for no early end.
        images: number of training images, without those held out for validation.
        teacher_sha256: SHA-256 of the teacher's file.
        fingerprint: hash of the paths and contents of all images used.
        teacher: path of the teacher's file.
        layout: the layout of the dataset's folders that the user named; None if it was found by the folders.
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
    layout: Optional[str] = dataclasses.field(default=None, compare=False)

    def __post_init__(self) -> None:
        _require(self.epochs >= 1, "--epochs", "needs at least 1 epoch")
        _require(self.batch_size >= 1, "--batch-size", "needs at least 1 image")
        try:
            check_size("the model's image size", self.image_size)
        except ValueError as error:
            raise AdqError(str(error), where="--image-size") from error
        rate = self.learning_rate
        _require(rate > 0 and math.isfinite(rate), "--learning-rate", "needs a number above 0")
        _require(self.seed >= 0, "--seed", "needs a number of 0 or more")
        _require(0 <= self.validation < 1, "--validation", "needs a fraction from 0 to below 1")
        patience = self.early_stopping
        _require(patience is None or patience >= 1, "--early-stopping", "needs at least 1 epoch")

    def learning_rate_in(self, epoch: int, epochs: int) -> float:
        """Return the learning rate of epoch `epoch` (from 1) in a stage of `epochs` epochs."""
        if self.decay == Decay.NONE.value:
            return self.learning_rate
        return self.learning_rate * 0.5 * (1.0 + math.cos(math.pi * (epoch - 1) / epochs))

    def to_dict(self) -> Dict[str, Any]:
        """Return the settings as plain values for a checkpoint."""
        return {**dataclasses.asdict(self), "options": dict(self.options)}

    def difference(self, earlier: Mapping[str, Any]) -> Optional[str]:
        """Describe the first setting that differs from an earlier training's `to_dict`; None if equal."""
        for field in dataclasses.fields(self):
            requested, earlier_value = getattr(self, field.name), earlier.get(field.name)
            if not field.compare or requested == earlier_value:
                continue
            if field.name not in earlier:
                return f"an older adq-edge that did not record {field.name.replace('_', ' ')}"
            if field.name in ("categories", "fingerprint") and self.layout != earlier.get("layout"):
                layouts = (name or "that the folders show" for name in (earlier.get("layout"), self.layout))
                return "images in the layout {}, not {}".format(*layouts)
            if field.name == "fingerprint":
                return "other images (a file's name or content in the dataset has changed)"
            if field.name == "teacher_sha256":
                return f"another teacher ({earlier.get('teacher')})"
            if field.name == "options":
                return _different_option(self.options, earlier_value or {})
            return f"{field.name.replace('_', ' ')} {earlier_value!r}, not {requested!r}"
        if self.decay != Decay.NONE.value and self.epochs != earlier["epochs"]:
            return f"epochs {earlier['epochs']}, not {self.epochs}, over which its learning rate falls"
        return None


def require_supported(settings: TrainingSettings, device: torch.device) -> None:
    """Check that a device can train with these settings.

    Raises:
        AdqError: the device does not support the precision or compilation.
    """
    TrainingPrecision(settings.precision).autocast_type(device)
    fits = not settings.compile or device.type == "cuda"
    _require(fits, "--compile", "needs a CUDA device", fix="Omit it: a CPU trains without compilation")


def _different_option(requested: Mapping[str, Option], earlier: Mapping[str, Option]) -> str:
    name = next(name for name in [*requested, *earlier] if requested.get(name) != earlier.get(name))
    return f"{name} {earlier.get(name)!r}, not {requested.get(name)!r}"


def _require(holds: bool, option: str, what: str, fix: Optional[str] = None) -> None:
    if not holds:
        raise AdqError(what, where=option, fix=fix)
