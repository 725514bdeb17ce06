"""The `train` verb: normal images of any number of categories become one checkpoint, or one each."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Iterator, List, Mapping, Optional, Sequence, Tuple, Union

from adq_edge.artifacts import workspace
from adq_edge.core.errors import AdqError
from adq_edge.core.options import choose
from adq_edge.datasets.mvtec import read_dataset
from adq_edge.models.config import Option
from adq_edge.models.registry import method
from adq_edge.training.distributed import open_process_group
from adq_edge.training.session import TrainResult, prepare
from adq_edge.training.settings import Balance, Decay, Selection, TrainingPrecision, TrainingSettings

VALIDATION = 0.1
"""Part of each category's normal images that is held out when nothing else is said."""


def train(
    data: Union[str, Path],
    *,
    output: Optional[Union[str, Path]] = None,
    arch: str = "stfpm",
    categories: Optional[Sequence[str]] = None,
    teacher_weights: Optional[str] = None,
    options: Optional[Mapping[str, Option]] = None,
    epochs: Optional[int] = None,
    batch_size: Optional[int] = None,
    learning_rate: Optional[float] = None,
    image_size: Tuple[int, int] = (256, 256),
    validation: float = VALIDATION,
    select: Union[Selection, str] = Selection.LOSS,
    early_stopping: Optional[int] = None,
    decay: Union[Decay, str] = Decay.NONE,
    balance: Union[Balance, str] = Balance.NONE,
    seed: int = 0,
    precision: Union[TrainingPrecision, str] = TrainingPrecision.AUTO,
    compile: bool = False,
    resume: bool = True,
    progress: bool = True,
) -> TrainResult:
    """Train one model on the normal images of all categories together, or of one.

    The checkpoint is written after every epoch, and a log beside it; its model is that of the best epoch.
    A run that was interrupted continues from it, with the same numbers (on the same machine with the same
    number of threads and processes) as if it had not been interrupted. Processes that torchrun started
    train together: same batches, same numbers but for the order of summation.

    Args:
        data: a dataset folder in MVTec AD layout, or one category's folder.
        output: the checkpoint file; `checkpoints/ARCH.pt` or `checkpoints/ARCH-CATEGORY.pt` by default.
        arch: the method.
        categories: the categories to train on; all by default.
        teacher_weights: see `adq_edge.models.teacher.teacher_file`.
        options: the method's (see its `default_options`); its defaults for what is not named.
        epochs: of each stage, times its share; the method's study settings by default, as for `batch_size`
            and `learning_rate`.
        batch_size: images per step, over all processes together.
        learning_rate: of the method's optimizer.
        image_size: (height, width) in pixels.
        validation: part of each category's normal images that is held out, 0 to less than 1, rounded down
            (but one image at least where a category has 10): the epoch with the lowest loss on them is
            kept. 0, or too few images, keeps the last epoch.
        select: what the best epoch is chosen by; `auroc` looks at the test images, for studies.
        early_stopping: end a stage after so many epochs without a better one; never by default.
        decay: how the learning rate falls; with `cosine` the epochs of a training cannot grow.
        balance: how often an image is drawn; `categories` where some have few of them.
        seed: the same seed gives the same numbers on the same machine.
        precision: of the networks while training.
        compile: let torch.compile make the training step (CUDA alone).
        resume: continue from `output` if it was made with the same settings (`epochs` may grow); otherwise
            start afresh and replace it.
        progress: show a progress bar on stderr.

    Raises:
        AdqError: an option is out of range, or not for this machine.
        DataError: the dataset or an image cannot be used.
        StorageError: a file cannot be read or written; an earlier checkpoint stays as it was.
        CheckpointError: the method has no such option, the teacher cannot be used, `output` holds something
            else, or training diverged; the last good epoch's checkpoint stays.
    """
    dataset = read_dataset(Path(data), categories)
    defaults = method(arch).training_defaults
    settings = TrainingSettings(
        arch=arch,
        data=str(dataset.root.resolve()),
        categories=tuple(category.name for category in dataset.categories),
        image_size=image_size,
        batch_size=defaults.batch_size if batch_size is None else batch_size,
        learning_rate=defaults.learning_rate if learning_rate is None else learning_rate,
        seed=seed,
        precision=choose(TrainingPrecision, precision).value,
        options=dict(options or {}),
        validation=validation,
        select=choose(Selection, select).value,
        compile=compile,
        decay=choose(Decay, decay).value,
        balance=choose(Balance, balance).value,
        epochs=defaults.epochs if epochs is None else epochs,
        early_stopping=early_stopping,
    )
    name = "-".join([arch, *(categories or ())])
    checkpoint = workspace.CHECKPOINTS / f"{name}.pt" if output is None else Path(output)
    with open_process_group() as team:
        session = prepare(settings, dataset, team, teacher_weights)
        return session.run(checkpoint, resume, progress and team.is_first)


def train_each(
    data: Union[str, Path],
    *,
    output: Optional[Union[str, Path]] = None,
    arch: str = "stfpm",
    categories: Optional[Sequence[str]] = None,
    **settings: Any,
) -> List[TrainResult]:
    """Train one model for each category, the one-class setting that the unified one is compared with.

    A run that was interrupted goes on with the category that it was at.

    Args:
        data: a dataset folder in MVTec AD layout, or one category's folder.
        output: the folder for the checkpoints `ARCH-CATEGORY.pt`; `checkpoints/` by default.
        arch: the method.
        categories: the categories; all by default.
        settings: the other arguments of `train`.

    Raises:
        AdqError: as by `train`; the message names the category.
    """
    folder = workspace.CHECKPOINTS if output is None else Path(output)
    dataset = read_dataset(Path(data), categories)
    results = []
    with open_process_group():
        for category in dataset.categories:
            checkpoint = folder / f"{arch}-{category.name}.pt"
            with _naming(category.name):
                results.append(
                    train(data, output=checkpoint, arch=arch, categories=[category.name], **settings)
                )
    return results


@contextlib.contextmanager
def _naming(category: str) -> Iterator[None]:
    """Let an error say which category's training it ended."""
    try:
        yield
    except AdqError as error:
        raise type(error)(f"category {category!r}: {error.what}", where=error.where, fix=error.fix) from error
