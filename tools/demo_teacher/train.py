"""Training of the demo teacher on the CPU in a given time.

The trunk learns from random weights to compute the features of a reference trunk (torchvision's ResNet-18) on
drawn images. An anomaly detector needs a teacher with rich local features, and imitation transfers these
in minutes.
Source of the loss: Romero et al., "FitNets: Hints for Thin Deep Nets", ICLR 2015, equation 3, per channel in
units of the reference's own standard deviation.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from pathlib import Path
from typing import Callable, Generator, Iterator, List, Optional

import cv2
import torch
from torch.utils.data import DataLoader, IterableDataset

from adq_edge.models.resnet import ResNet18Trunk
from adq_edge.models.torch_files import write_torch_file
from tools.demo_teacher.images import ImageGenerator

_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)
_CHECKPOINT_SECONDS = 120.0
_WARM_UP = 0.03
_VARIANCE_FLOOR = 0.1
"""Keeps channels that are almost always 0 from dominating the loss."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Everything that the result depends on, except the speed of the machine.

    Attributes:
        minutes: training time in minutes; the learning rate falls to zero over this time.
        seed: of the first weights and the images.
        size: side of the images in pixels.
        final_size: side in the last part of the training, closer to the images that the teacher is used on.
        final_part: share of the time for `final_size`.
        batch: images per step at `size`; at `final_size` fewer, so that the area is equal.
        materials: the number of materials in the images.
        learning_rate: highest learning rate of AdamW.
    """

    minutes: float = 13.0
    seed: int = 0
    size: int = 96
    final_size: int = 160
    final_part: float = 0.15
    batch: int = 64
    materials: int = 384
    learning_rate: float = 2e-3


@dataclasses.dataclass(frozen=True)
class Progress:
    """Progress of a training: share of the time (0 to 1), steps, images, smoothed loss."""

    done: float
    steps: int
    images: int
    loss: float


class _Stream(IterableDataset[torch.Tensor]):
    """Batches as tensors, drawn in the loader's worker process."""

    def __init__(self, recipe: Recipe, size: int) -> None:
        super().__init__()
        self._recipe = recipe
        self._size = size

    def __iter__(self) -> Iterator[torch.Tensor]:
        cv2.setNumThreads(1)
        recipe = self._recipe
        generator = ImageGenerator(recipe.seed, self._size, recipe.materials)
        count = max(round(recipe.batch * (recipe.size / self._size) ** 2), 2)
        while True:
            yield torch.from_numpy(generator.batch(count))


class Trainer:
    """Trains a trunk to imitate a reference trunk, one batch after another.

    Args:
        recipe: what to train with.
        reference: the trunk to imitate; it is switched to evaluation mode.
    """

    def __init__(self, recipe: Recipe, reference: ResNet18Trunk) -> None:
        torch.manual_seed(recipe.seed)
        self._recipe = recipe
        self._reference = reference.eval().requires_grad_(False)
        self.trunk = ResNet18Trunk()
        decayed = [p for p in self.trunk.parameters() if p.ndim > 1]
        others = [p for p in self.trunk.parameters() if p.ndim <= 1]
        self._optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}],
            lr=recipe.learning_rate,
        )

    def step(self, batch: torch.Tensor, done: float) -> float:
        """Train on one batch and return the loss.

        Args:
            batch: uint8 `[N, H, W, 3]` RGB.
            done: share of the training that is complete, 0 to 1.
        """
        rate = min(done / _WARM_UP, 0.5 * (1 + math.cos(math.pi * min(done, 1.0))))
        for group in self._optimizer.param_groups:
            group["lr"] = self._recipe.learning_rate * max(rate, 1e-3)
        images = normalize(batch)
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                wanted = self._reference(images)
            features = self.trunk(images)
        loss = imitation_loss([f.float() for f in features], [f.float() for f in wanted])
        self._optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(self.trunk.parameters(), 5.0)
        self._optimizer.step()
        return float(loss.detach())


def imitation_loss(features: List[torch.Tensor], wanted: List[torch.Tensor]) -> torch.Tensor:
    """Return the squared error in units of the wanted features' variance, summed over layers; a scalar."""
    missed = []
    for feature, target in zip(features, wanted):
        variance = target.var((0, 2, 3), keepdim=True) + _VARIANCE_FLOOR * target.var()
        missed.append(((feature - target) ** 2 / variance).mean())
    return torch.stack(missed).sum()


def normalize(images: torch.Tensor) -> torch.Tensor:
    """Convert uint8 `[N, H, W, 3]` RGB to the float32 `[N, 3, H, W]` input of STFPM's teacher."""
    return (images.float() / 255 - torch.tensor(_MEAN)).div_(torch.tensor(_STD)).permute(0, 3, 1, 2)


def train(
    recipe: Recipe,
    reference: ResNet18Trunk,
    output: Path,
    report: Optional[Callable[[Progress], None]] = None,
) -> None:
    """Train a teacher to imitate `reference`; write it to `output` every two minutes and at the end.

    Raises:
        StorageError: the folder cannot be written to or is full.
    """
    trainer = Trainer(recipe, reference)
    start = saved = time.monotonic()
    steps, images, loss = 0, 0, math.nan
    for batch in _batches(recipe, start):
        now = time.monotonic()
        done = (now - start) / (60 * recipe.minutes)
        latest = trainer.step(batch, done)
        loss = latest if math.isnan(loss) else 0.98 * loss + 0.02 * latest
        steps, images = steps + 1, images + len(batch)
        if report is not None:
            report(Progress(done, steps, images, loss))
        if now - saved > _CHECKPOINT_SECONDS:
            save_teacher(trainer.trunk, output)
            saved = now
    save_teacher(trainer.trunk, output)


def _batches(recipe: Recipe, start: float) -> Iterator[torch.Tensor]:
    """Yield batches of `size`, then of `final_size`, until the time is up."""
    parts = ((recipe.size, 1 - recipe.final_part), (recipe.final_size, 1.0))
    for size, until in parts:
        # Spawn: a forked process can hang where OpenCV or torch runs threads.
        loader = DataLoader(
            _Stream(recipe, size),
            batch_size=None,
            num_workers=1,
            prefetch_factor=4,
            multiprocessing_context="spawn",
        )
        with contextlib.closing(_endless(loader)) as batches:
            while time.monotonic() - start < 60 * recipe.minutes * until:
                yield next(batches)


def _endless(loader: DataLoader[torch.Tensor]) -> Generator[torch.Tensor, None, None]:
    yield from loader


def save_teacher(trunk: ResNet18Trunk, path: Path) -> None:
    """Write the trunk's state dict in float16, without BatchNorm's step counters, atomically.

    The file loads strictly into `ResNet18Trunk`: torch adds the counters.

    Raises:
        StorageError: the folder cannot be written to or is full.
    """
    state = {
        name: tensor.detach().half().contiguous()
        for name, tensor in trunk.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    write_torch_file(path, state)
