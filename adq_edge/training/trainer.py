"""One training in memory: the model, its optimizer and how far they are; and its way to and from a file."""

from __future__ import annotations

import contextlib
import math
import tempfile
from pathlib import Path
from typing import Any, ContextManager, Dict, List, Optional

import numpy as np
import torch

from adq_edge.errors import CheckpointError
from adq_edge.files import storage_errors
from adq_edge.models.base import STUDENT, AnomalyModel, ModelConfig
from adq_edge.models.checkpoint import FORMAT, Checkpoint, load_checkpoint, save_checkpoint
from adq_edge.models.registry import method
from adq_edge.models.teacher import teacher_state
from adq_edge.models.torch_files import read_torch_file
from adq_edge.training.images import TrainingImages, shuffled_batches
from adq_edge.training.progress import TrainingProgress
from adq_edge.training.settings import TrainingPrecision, TrainingSettings

_RESTART = "Choose another output, or --restart to train from the beginning and replace it"


class Trainer:
    """A model in training.

    All randomness is seeded from (seed, epoch) at each epoch's start, so a training that continues from a
    file gives the same numbers as one that was never interrupted.

    Args:
        settings: what to train with.
        earlier: the checkpoint to continue from, made with the same settings; None starts afresh.

    Attributes:
        losses: the mean loss of every complete epoch.
    """

    def __init__(self, settings: TrainingSettings, earlier: Optional[Checkpoint]) -> None:
        self.settings = settings
        self.losses: List[float] = []
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._stage = STUDENT
        self._bfloat16 = TrainingPrecision(settings.precision).uses_bfloat16(self._device)
        self._model = (_untrained(settings) if earlier is None else earlier.model).to(self._device)
        self._optimizer = self._model.optimizer(self._stage, settings.learning_rate)
        if earlier is not None:
            self._optimizer.load_state_dict(earlier.training["optimizer"])
            self.losses = list(earlier.training["losses"])

    def train_epoch(self, images: TrainingImages, progress: TrainingProgress) -> None:
        """Train one epoch.

        Raises:
            DataError: an image that is read only now is not a whole image.
            CheckpointError: the loss or a weight became infinite or NaN.
        """
        epoch = len(self.losses) + 1
        _seed(self.settings.seed, epoch)
        self._model.train_stage(self._stage)
        batches = shuffled_batches(self.settings.images, self.settings.batch_size)
        losses = []
        for batch in images.batches(batches):
            losses.append(self._step(batch))
            if not math.isfinite(losses[-1]):
                raise self._divergence(epoch)
            progress.advance(len(batch), f"epoch {epoch}/{self.settings.epochs}", losses[-1])
        weights = self._model.trainable(self._stage).state_dict().values()
        if not all(bool(torch.isfinite(tensor).all()) for tensor in weights):
            raise self._divergence(epoch)
        self.losses.append(sum(losses) / len(losses))

    def _step(self, batch: torch.Tensor) -> float:
        with self._autocast():
            loss = self._model.stage_loss(self._stage, batch.to(self._device))
        self._optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self._optimizer.step()
        return loss.item()

    def _autocast(self) -> ContextManager[Any]:
        if not self._bfloat16:
            return contextlib.nullcontext()
        return torch.autocast(self._device.type, dtype=torch.bfloat16)

    def _divergence(self, epoch: int) -> CheckpointError:
        kept = f"; the checkpoint keeps epoch {epoch - 1}" if epoch > 1 else ""
        return CheckpointError(
            f"training diverged in epoch {epoch} (NaN or infinite loss or weights){kept}",
            fix=f"Train again with a lower --learning-rate than {self.settings.learning_rate:g}",
        )

    def save(self, path: Path) -> None:
        """Write the model and all that `earlier` needs, atomically.

        Raises:
            StorageError: the folder cannot be written to or is full.
        """
        self._model.eval()
        training: Dict[str, Any] = {
            "settings": self.settings.to_dict(),
            "epoch": len(self.losses),
            "losses": self.losses,
            "optimizer": self._optimizer.state_dict(),
        }
        save_checkpoint(path, self._model, training)


def _untrained(settings: TrainingSettings) -> AnomalyModel:
    _seed(settings.seed, 0)
    model = method(settings.arch)(ModelConfig(image_size=settings.image_size))
    model.load_teacher(teacher_state(settings.teacher))
    return model


def _seed(seed: int, epoch: int) -> None:
    """Seed torch so that no epoch of one seed repeats an epoch of another."""
    torch.manual_seed(int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0]))


def find_earlier(output: Path, settings: TrainingSettings, resume: bool) -> Optional[Checkpoint]:
    """Return the checkpoint at `output` that a training with these settings continues; None to start afresh.

    Raises:
        StorageError: the place cannot be read or written to.
        CheckpointError: the file there is no checkpoint of a training, or one with other settings.
    """
    _require_writable(output)
    if not output.exists():
        return None
    earlier = _read_earlier(output)
    if not resume:
        return None
    difference = settings.difference(earlier.training["settings"])
    epochs = len(earlier.training["losses"])
    if difference is None and epochs > settings.epochs:
        difference = f"epochs {epochs}, not {settings.epochs}"
    if difference is not None:
        raise CheckpointError(f"was trained with {difference}", where=output, fix=_RESTART)
    return earlier


def _require_writable(output: Path) -> None:
    """Find out before an epoch is spent whether its checkpoint can be written."""
    if output.is_dir():
        raise CheckpointError(
            "is a folder, not a checkpoint file",
            where=output,
            fix=f"Name a file, such as {output / 'model.pt'}",
        )
    with storage_errors(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=str(output.parent)):
            pass


def _read_earlier(output: Path) -> Checkpoint:
    """Read a checkpoint that a training wrote; what anything else wrote is never replaced."""
    try:
        # Asked first: recognising a foreign format may need a teacher and a download.
        if read_torch_file(output).get("format") == FORMAT:
            checkpoint = load_checkpoint(output)
            if {"settings", "losses", "optimizer"} <= set(checkpoint.training):
                return checkpoint
        what = "is no checkpoint that adq-edge trained"
    except CheckpointError as error:
        what = error.what
    raise CheckpointError(
        f"{what}, and is not replaced", where=output, fix="Move it away or choose another output"
    )
