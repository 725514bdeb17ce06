"""The `train` verb: normal pictures of any number of categories become one checkpoint."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Optional, Sequence, Tuple, Union

from adq_edge import workspace
from adq_edge.datasets.layout import read_dataset
from adq_edge.errors import DataError
from adq_edge.files import sha256
from adq_edge.models.registry import method
from adq_edge.models.teacher import teacher_file
from adq_edge.training.images import TrainingImages
from adq_edge.training.progress import TrainingProgress
from adq_edge.training.settings import TrainingPrecision, TrainingSettings
from adq_edge.training.trainer import Trainer, find_earlier


@dataclasses.dataclass(frozen=True)
class TrainResult:
    """What a training came to.

    Attributes:
        checkpoint: the file.
        epochs: complete epochs in it.
        resumed_from: how many of them an earlier run had done.
        loss: the mean loss of the last epoch.
        images: the number of training images.
        seconds: wall time of this run.
    """

    checkpoint: Path
    epochs: int
    resumed_from: int
    loss: float
    images: int
    seconds: float


def train(
    data: Union[str, Path],
    *,
    output: Optional[Union[str, Path]] = None,
    arch: str = "stfpm",
    categories: Optional[Sequence[str]] = None,
    teacher_weights: Optional[str] = None,
    epochs: Optional[int] = None,
    batch_size: Optional[int] = None,
    learning_rate: Optional[float] = None,
    image_size: Tuple[int, int] = (256, 256),
    seed: int = 0,
    precision: TrainingPrecision = TrainingPrecision.AUTO,
    resume: bool = True,
    progress: bool = True,
) -> TrainResult:
    """Train one model on the normal pictures of all categories together, or of one.

    The checkpoint is written after every epoch. A run that was interrupted continues from it, with the
    same numbers (on the same machine with the same number of threads) as if it had not been interrupted.

    Args:
        data: a dataset folder in MVTec AD layout, or one category's folder.
        output: the checkpoint file; `checkpoints/ARCH.pt` or `checkpoints/ARCH-CATEGORY.pt` by default.
        arch: the method.
        categories: the categories to train on; all by default.
        teacher_weights: see `adq_edge.models.teacher.teacher_file`.
        epochs: the method's study settings by default, as for `batch_size` and `learning_rate`.
        batch_size: images per step.
        learning_rate: of the method's optimizer.
        image_size: (height, width) in pixels.
        seed: the same seed gives the same numbers on the same machine.
        precision: of the networks while training.
        resume: continue from `output` if it was made with the same settings (`epochs` may grow); otherwise
            start afresh and replace it.
        progress: show a progress bar on stderr.

    Raises:
        AdqError: an option is out of range.
        DataError: the dataset or an image cannot be used.
        StorageError: a file cannot be read or written; an earlier checkpoint stays as it was.
        CheckpointError: the teacher cannot be used, `output` holds something else, or training diverged; the
            last good epoch's checkpoint stays.
    """
    started = time.monotonic()
    dataset = read_dataset(Path(data), categories)
    paths = dataset.train_images
    if len(paths) < 2:
        raise DataError("holds one training image", where=dataset.root, fix="Training needs at least 2")
    defaults = method(arch).training_defaults
    teacher = teacher_file(teacher_weights)
    settings = TrainingSettings(
        arch=arch,
        data=str(dataset.root.resolve()),
        categories=tuple(category.name for category in dataset.categories),
        images=len(paths),
        image_size=image_size,
        batch_size=defaults.batch_size if batch_size is None else batch_size,
        learning_rate=defaults.learning_rate if learning_rate is None else learning_rate,
        seed=seed,
        precision=precision.value,
        teacher_sha256=sha256(teacher),
        teacher=str(teacher.resolve()),
        epochs=defaults.epochs if epochs is None else epochs,
    )
    name = "-".join([arch, *(categories or ())])
    checkpoint = workspace.CHECKPOINTS / f"{name}.pt" if output is None else Path(output)
    trainer = Trainer(settings, find_earlier(checkpoint, settings, resume))
    resumed_from = len(trainer.losses)
    if resumed_from < settings.epochs:
        with TrainingProgress(progress) as bar:
            _train(trainer, paths, checkpoint, bar)
    return TrainResult(
        checkpoint=checkpoint,
        epochs=len(trainer.losses),
        resumed_from=resumed_from,
        loss=trainer.losses[-1],
        images=len(paths),
        seconds=time.monotonic() - started,
    )


def _train(trainer: Trainer, paths: Sequence[Path], checkpoint: Path, bar: TrainingProgress) -> None:
    done, settings = len(trainer.losses), trainer.settings
    if done:
        bar.say(f"continuing after epoch {done} of {settings.epochs}: {checkpoint}")
    bar.begin("reading images", total=len(paths))
    images = TrainingImages(paths, settings.image_size, on_read=bar.advance)
    per_epoch = len(paths) - len(paths) % min(settings.batch_size, len(paths))
    bar.begin("training", total=settings.epochs * per_epoch, completed=done * per_epoch)
    for _ in range(done, settings.epochs):
        trainer.train_epoch(images, bar)
        trainer.save(checkpoint)
