"""One training from settings to result: create the model, find an earlier part, train the rest."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from pathlib import Path
from typing import Optional

from adq_edge.core.errors import AdqError
from adq_edge.core.files import sha256, write_together
from adq_edge.datasets.dataset import Dataset
from adq_edge.models.base import AnomalyModel
from adq_edge.models.config import ModelConfig
from adq_edge.models.registry import method
from adq_edge.models.teacher import teacher_file, teacher_state
from adq_edge.training.data import ImageSets, read_images
from adq_edge.training.distributed import ProcessGroup
from adq_edge.training.inputs import StepInputs
from adq_edge.training.log import log_path, write_log
from adq_edge.training.progress import TrainingProgress
from adq_edge.training.resume import find_resumable
from adq_edge.training.settings import Selection, TrainingSettings, require_supported
from adq_edge.training.sync_batch_norm import has_norm
from adq_edge.training.trainer import Trainer, seed_epoch


@dataclasses.dataclass(frozen=True)
class TrainResult:
    """The result of a training.

    Attributes:
        checkpoint: the checkpoint file, with the model of the best epoch.
        log: the CSV file with a row for every epoch.
        epochs: number of complete epochs, over all stages.
        resumed_from: number of these epochs that an earlier run trained.
        loss: the mean loss of the last epoch.
        best_epoch: the best epoch of the last stage, from 1.
        validation_loss: loss on validation images in the best epoch; None without such images.
        auroc: mean image AUROC of the test images in the best epoch, 0 to 1; None if not measured.
        stopped: reason why the last stage ended early; None if it did not.
        images: the number of training images.
        seconds: wall time of this run.
    """

    checkpoint: Path
    log: Path
    epochs: int
    resumed_from: int
    loss: float
    best_epoch: int
    validation_loss: Optional[float]
    auroc: Optional[float]
    stopped: Optional[str]
    images: int
    seconds: float


@dataclasses.dataclass(frozen=True)
class Session:
    """A training that is ready to start.

    Attributes:
        settings: the complete settings.
        model: the untrained model with its teacher loaded.
        sets: the image files.
        processes: the processes that train it together.
    """

    settings: TrainingSettings
    model: AnomalyModel
    sets: ImageSets
    processes: ProcessGroup

    def run(self, checkpoint: Path, resume: bool, progress: bool) -> TrainResult:
        """Train the epochs that are not yet done (see `train` for arguments and errors)."""
        started = time.monotonic()
        earlier = self.processes.from_first(lambda: find_resumable(checkpoint, self.settings, resume))
        trainer = Trainer(self.settings, self.model, self.processes, earlier)
        resumed_from = len(trainer.records)
        if not trainer.complete:
            with TrainingProgress(progress) as bar:
                self._train(trainer, checkpoint, bar)
        best = trainer.best
        return TrainResult(
            checkpoint=checkpoint,
            log=log_path(checkpoint),
            epochs=len(trainer.records),
            resumed_from=resumed_from,
            loss=trainer.records[-1].loss,
            best_epoch=best.epoch,
            validation_loss=best.validation_loss,
            auroc=best.auroc,
            stopped=trainer.stopped,
            images=self.settings.images,
            seconds=time.monotonic() - started,
        )

    def _train(self, trainer: Trainer, checkpoint: Path, bar: TrainingProgress) -> None:
        done, epochs = len(trainer.records), sum(trainer.schedule.epochs)
        if done:
            bar.print_line(f"continuing after epoch {done} of {epochs}: {checkpoint}")
        sets, count = self.sets, len(self.sets.training)
        bar.begin("reading images", total=count + len(sets.validation) + len(sets.test))
        data = read_images(sets, self.settings.image_size, bar.advance, self.processes.local_size)
        per_epoch = count - count % min(self.settings.batch_size, count)
        bar.begin("training", total=epochs * per_epoch, completed=done * per_epoch)

        def save() -> None:
            if self.processes.is_first:
                with write_together():
                    trainer.save(checkpoint)
                    write_log(checkpoint, trainer.records)

        inputs = StepInputs.of(self.model, data, self.processes, bar.print_line)
        with contextlib.closing(inputs):
            trainer.run(data, inputs, bar, save)


def prepare(
    settings: TrainingSettings, dataset: Dataset, processes: ProcessGroup, teacher_weights: Optional[str]
) -> Session:
    """Create the model and complete the settings from it and the files.

    Args:
        settings: the requested settings; those of images and teacher are still empty.
        dataset: the images.
        processes: the processes.
        teacher_weights: see `adq_edge.models.teacher.teacher_file`.

    Raises:
        AdqError: the settings do not fit the machine, the images or each other.
        DataError: fewer than 2 training images, or no labeled test images for `select`.
        CheckpointError: the method has no such option, or the teacher cannot be used.
        StorageError: a file cannot be read.
    """
    require_supported(settings, processes.device)
    sets = ImageSets.of(dataset, settings.validation, settings.seed, Selection(settings.select))
    _require_comparison_images(settings, sets)
    seed_epoch(settings.seed, 0)
    config = ModelConfig(image_size=settings.image_size, options=settings.options)
    model = method(settings.arch)(config)
    _require_large_batches(min(settings.batch_size, len(sets.training)), model, processes)
    teacher = teacher_file(teacher_weights, model.teacher_backbone)
    complete = dataclasses.replace(
        settings,
        options=dict(model.config.options),
        images=len(sets.training),
        teacher=str(teacher.resolve()),
        teacher_sha256=sha256(teacher),
        fingerprint=sets.fingerprint(dataset.root),
    )
    model.load_teacher(teacher_state(str(teacher), model.teacher_backbone))
    same = dataclasses.replace(complete, data="", teacher="")  # paths may differ between machines
    processes.require_same(same, "settings, images or teachers")
    return Session(complete, model, sets, processes)


def _require_comparison_images(settings: TrainingSettings, sets: ImageSets) -> None:
    compared = bool(sets.validation) or settings.select == Selection.AUROC.value
    if settings.early_stopping is not None and not compared:
        raise AdqError(
            "no validation images to compare epochs on",
            where="--early-stopping",
            fix="Hold out more images with --validation, or compare on test images with --select auroc",
        )


def _require_large_batches(size: int, model: AnomalyModel, processes: ProcessGroup) -> None:
    if size < processes.size:
        raise AdqError(
            f"{size} images per step are too few for {processes.size} processes",
            where="--batch-size",
            fix="Give every process at least one image",
        )
    if size == 1 and any(has_norm(model.trainable(stage)) for stage in model.stages):
        raise AdqError("BatchNorm needs at least 2 images per batch", where="--batch-size")
