"""The `train --qat` command: continue a checkpoint's training with the rounding of the target engine."""

from __future__ import annotations

import dataclasses
import os
import time
from pathlib import Path
from typing import Any, List, Mapping, Optional, Sequence, Union

import numpy as np

from adq_edge.artifacts import workspace
from adq_edge.calibration.sources import ImageSource
from adq_edge.calibration.trained_ranges import QUANTIZATION
from adq_edge.core.errors import AdqError, CheckpointError, DataError
from adq_edge.core.files import write_together
from adq_edge.core.methods import QAT
from adq_edge.core.options import DEFAULT_SAMPLES, Arithmetic, choose
from adq_edge.datasets.dataset import Dataset, known_categories, read_dataset
from adq_edge.datasets.layouts.registry import prefer_layout
from adq_edge.models.checkpoint import Checkpoint, load_checkpoint
from adq_edge.models.threads import limit_torch_threads
from adq_edge.onnx_export.export import digest
from adq_edge.qat.initialize import quantize_after_training
from adq_edge.qat.settings import QatSettings
from adq_edge.qat.trainer import STATE, QatTrainer
from adq_edge.training.loader import TrainingImages
from adq_edge.training.log import log_path, require_log, write_log
from adq_edge.training.progress import TrainingProgress
from adq_edge.training.resume import read_resumed, require_writable
from adq_edge.training.schedule import EpochRecord
from adq_edge.training.score_statistics import measure_statistics
from adq_edge.training.state_errors import RESTART, state_errors


@dataclasses.dataclass(frozen=True)
class QatResult:
    """The result of quantization-aware training.

    Attributes:
        checkpoint: the checkpoint file.
        log: the CSV file with a row for every epoch.
        epochs: number of complete epochs in the checkpoint.
        resumed_from: number of epochs that earlier runs completed.
        loss: mean loss of the quantized networks in the last epoch.
        images: the number of training images.
        seconds: wall time of this run in seconds.
    """

    checkpoint: Path
    log: Path
    epochs: int
    resumed_from: int
    loss: float
    images: int
    seconds: float


def train_quantized(
    checkpoint: Union[str, Path],
    *,
    target: Union[Arithmetic, str],
    data: Optional[Union[str, Path]] = None,
    categories: Optional[Sequence[str]] = None,
    output: Optional[Union[str, Path]] = None,
    teacher_weights: Optional[str] = None,
    epochs: Optional[int] = None,
    batch_size: Optional[int] = None,
    learning_rate: Optional[float] = None,
    seed: int = 0,
    resume: bool = True,
    progress: bool = True,
) -> QatResult:
    """Train a checkpoint's quantized students to match their quantized teacher.

    Training starts from the model quantized after training. It learns ranges and weights with the rounding of
    the engine. `export` writes the learned ranges into the bundle, and `build --int8` uses them. The
    checkpoint and its log are written after every epoch. A resumed training gives the same numbers.

    Args:
        checkpoint: the initial checkpoint, from adq-edge or foreign.
        target: the arithmetic of the engine.
        data: the dataset folder; by default the one that the checkpoint was trained on.
        categories: the categories to train on; by default the checkpoint's, or all if the dataset has
            none of these.
        output: the checkpoint file; `checkpoints/NAME-qat-TARGET.pt` by default.
        teacher_weights: for checkpoints that hold only the student (see `teacher_state`).
        epochs: number of epochs; 1 by default.
        batch_size: images per step; 8 by default.
        learning_rate: initial learning rate, in levels of the integer grid per step; 0.02 by default.
        seed: the same seed gives the same numbers on the same machine.
        resume: continue from `output` if it was made with the same settings.
        progress: show a progress bar on stderr.

    Raises:
        AdqError: an option is out of range, or several processes were started.
        DataError: there are no training images, or an image cannot be used.
        StorageError: a file cannot be read or written.
        CheckpointError: the checkpoint cannot be trained with quantization, `output` is another kind of file,
            or training diverged. The last good epoch's checkpoint is kept.
    """
    started = time.monotonic()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise AdqError("--qat supports only one process", fix="Run it without torchrun")
    limit_torch_threads()
    arithmetic = choose(Arithmetic, target)
    base = Path(checkpoint)
    loaded = load_checkpoint(base, teacher_weights=teacher_weights)
    if QUANTIZATION in loaded.training:
        raise CheckpointError(
            "was already trained with quantization",
            where=base,
            fix="Give the checkpoint that it was made from",
        )
    trained = loaded.training.get("settings", {})
    with prefer_layout(trained.get("layout")):
        dataset = _dataset(base, trained, data, categories)
    source = ImageSource(tuple(dataset.train_images))
    settings = QatSettings(
        checkpoint_sha256=digest(base),
        target=arithmetic.value,
        data=str(dataset.root.resolve()),
        categories=tuple(category.name for category in dataset.categories),
        images=len(source),
        fingerprint=source.fingerprint(),
        epochs=QAT.epochs if epochs is None else epochs,
        batch_size=QAT.batch_size if batch_size is None else batch_size,
        learning_rate=QAT.learning_rate if learning_rate is None else learning_rate,
        seed=seed,
    )
    path = workspace.CHECKPOINTS / f"{base.name.split('.')[0]}-qat-{arithmetic.value}.pt"
    path = path if output is None else Path(output)
    earlier = find_resumable(path, settings, resume)
    with state_errors(path):
        records = [] if earlier is None else [EpochRecord(**row) for row in earlier.training[STATE]["log"]]
    done = len(records)
    if done < settings.epochs:
        with TrainingProgress(progress) as bar, prefer_layout(trained.get("layout")):
            records = _train(settings, base, loaded, earlier, source, path, bar)
    return QatResult(
        checkpoint=path,
        log=log_path(path),
        epochs=len(records),
        resumed_from=done,
        loss=records[-1].loss,
        images=len(source),
        seconds=time.monotonic() - started,
    )


def _dataset(
    base: Path,
    trained: Mapping[str, Any],
    data: Optional[Union[str, Path]],
    categories: Optional[Sequence[str]],
) -> Dataset:
    if data is None and trained.get("data") is None:
        raise DataError("does not name its training data", where=base, fix="Name a dataset with --data")
    root = Path(trained["data"] if data is None else data)
    if categories is None:
        own = tuple(trained.get("categories") or ())
        categories = own if data is None else known_categories(root, own)
    dataset = read_dataset(root, categories)
    if not dataset.train_images:
        raise DataError("contains no training images", where=dataset.root, fix="Name a dataset with --data")
    return dataset


def _train(
    settings: QatSettings,
    base: Path,
    loaded: Checkpoint,
    earlier: Optional[Checkpoint],
    source: ImageSource,
    path: Path,
    bar: TrainingProgress,
) -> List[EpochRecord]:
    if earlier is None:
        if loaded.unmeasured:
            measure_statistics(loaded, base, settings.data)
        bar.print_line("quantizing the initial model")
        order = np.random.default_rng(settings.seed).permutation(len(source))[:DEFAULT_SAMPLES]
        calibration = ImageSource(tuple(source.paths[index] for index in order))
        arithmetic = Arithmetic(settings.target)
        model, ranges = quantize_after_training(loaded.model, arithmetic, calibration, Path(settings.data))
        trainer = QatTrainer(settings, model, ranges, loaded.training.get("settings", {}))
    else:
        trainer = QatTrainer.from_checkpoint(settings, earlier, path)
        bar.print_line(f"continuing after epoch {len(trainer.records)} of {settings.epochs}: {path}")
    size = loaded.model.config.image_size
    bar.begin("reading images", total=len(source))
    images = TrainingImages(source.paths, size, on_read=bar.advance)
    per_epoch = len(source) - len(source) % min(settings.batch_size, len(source))
    done = len(trainer.records)
    bar.begin("training", total=settings.epochs * per_epoch, completed=done * per_epoch)
    for _ in range(done, settings.epochs):
        trainer.train_epoch(images, bar)
        if len(trainer.records) == settings.epochs:
            trainer.finish(images)
        with write_together():
            trainer.save(path)
            write_log(path, trainer.records)
    return trainer.records


def find_resumable(output: Path, settings: QatSettings, resume: bool) -> Optional[Checkpoint]:
    """Return the earlier training at `output` to continue from; None to start from the beginning.

    Raises:
        StorageError: `output` cannot be read or written to.
        CheckpointError: the file is not a checkpoint of quantization-aware training, or has other settings.
    """
    require_writable(output)
    require_log(output)
    if not output.exists():
        return None
    earlier = read_resumed(output, {STATE}, "is not a checkpoint of quantization-aware training")
    if not resume:
        return None
    with state_errors(output):
        state = earlier.training[STATE]
        difference = settings.difference(state["settings"])
    if difference is None and "log" not in state:
        difference = "a version of adq-edge that wrote no log"
    if difference is not None:
        raise CheckpointError(f"was trained with {difference}", where=output, fix=RESTART)
    return earlier
