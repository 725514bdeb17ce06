"""Training of the demo teacher within a given time, on the CPU: by imitation on procedural images.

The trunk learns from scratch to give the features that a reference trunk (torchvision's ResNet-18) gives, on
images that are drawn for it; no photograph is seen. What an anomaly detector needs of a teacher is rich
local features, and imitation passes them on in minutes.
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
from tools.demo_teacher.images import ImageGenerator
from torch.utils.data import DataLoader, IterableDataset

from adq_edge.models.resnet import ResNet18Trunk
from adq_edge.models.torch_files import write_torch_file

_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)
_CHECKPOINT_SECONDS = 120.0
_WARM_UP = 0.03
_VARIANCE_FLOOR = 0.1
"""Keeps channels that hardly ever fire from ruling the loss."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Everything that the result depends on, besides the speed of the machine.

    Attributes:
        minutes: how long to train; the learning rate falls to zero over this time.
        seed: of the weights and the images.
        size: side of the images in pixels.
        final_size: side in the last part of the training, nearer to what the teacher will see.
        final_part: which part of the time goes to `final_size`.
        batch: images per step at `size`; fewer at `final_size`, by area.
        materials: how many materials to draw with.
        learning_rate: of AdamW at its highest.
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
    """How far the training is: part of the time used (0 to 1), steps, images seen, smoothed loss."""

    done: float
    steps: int
    images: int
    loss: float


class _Stream(IterableDataset[torch.Tensor]):
    """Batches as tensors; made in the loader's worker process."""

    def __init__(self, recipe: Recipe, size: int) -> None:
        super().__init__()
        self._recipe = recipe
        self._size = size

    def __iter__(self) -> Iterator[torch.Tensor]:
        cv2.setNumThreads(1)
        recipe = self._recipe
        maker = ImageGenerator(recipe.seed, self._size, recipe.materials)
        count = max(round(recipe.batch * (recipe.size / self._size) ** 2), 2)
        while True:
            yield torch.from_numpy(maker.batch(count))


class Trainer:
    """The trunk with its optimizer and the trunk that it imitates; one call of `step` per batch.

    Args:
        recipe: what to train with.
        reference: the trunk to imitate; switched to evaluation mode.
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
        """Learn from one batch.

        Args:
            batch: uint8 `[N, H, W, 3]` RGB.
            done: the part of the training that lies behind, 0 to 1.

        Returns:
            The loss.
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
    """Return the share of the wanted features' variance that is missed, summed over layers; a scalar."""
    missed = []
    for feature, target in zip(features, wanted):
        variance = target.var((0, 2, 3), keepdim=True) + _VARIANCE_FLOOR * target.var()
        missed.append(((feature - target) ** 2 / variance).mean())
    return torch.stack(missed).sum()


def normalize(images: torch.Tensor) -> torch.Tensor:
    """Turn uint8 `[N, H, W, 3]` RGB into the float32 `[N, 3, H, W]` that STFPM's teacher gets."""
    return (images.float() / 255 - torch.tensor(_MEAN)).div_(torch.tensor(_STD)).permute(0, 3, 1, 2)


def train(
    recipe: Recipe,
    reference: ResNet18Trunk,
    output: Path,
    report: Optional[Callable[[Progress], None]] = None,
) -> None:
    """Train a teacher to imitate `reference` and write it to `output`, every two minutes and at the end.

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
        # Spawned, because a fork of a process in which OpenCV or torch runs threads can hang.
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

    The file loads into `ResNet18Trunk` strictly: torch fills the counters in.

    Raises:
        StorageError: the folder cannot be written to or is full.
    """
    state = {
        name: tensor.detach().half().contiguous()
        for name, tensor in trunk.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    write_torch_file(path, state)
