"""The `train` command: train one model on all categories together, or one per category."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Iterator, List, Mapping, Optional, Sequence, Tuple, Union

from adq_edge.artifacts import workspace
from adq_edge.core.errors import AdqError
from adq_edge.core.methods import DEFAULT_METHOD, IMAGE_SIZE, VALIDATION
from adq_edge.core.options import choose
from adq_edge.datasets.dataset import print_notes, read_dataset
from adq_edge.datasets.layouts.registry import chosen_layout_name
from adq_edge.models.config import Option
from adq_edge.models.registry import method
from adq_edge.training.distributed import open_process_group
from adq_edge.training.session import TrainResult, prepare
from adq_edge.training.settings import Balance, Decay, Selection, TrainingPrecision, TrainingSettings


def train(
    data: Union[str, Path],
    *,
    output: Optional[Union[str, Path]] = None,
    arch: str = DEFAULT_METHOD,
    categories: Optional[Sequence[str]] = None,
    teacher_weights: Optional[str] = None,
    options: Optional[Mapping[str, Option]] = None,
    epochs: Optional[int] = None,
    batch_size: Optional[int] = None,
    learning_rate: Optional[float] = None,
    image_size: Tuple[int, int] = (IMAGE_SIZE, IMAGE_SIZE),
    validation: float = VALIDATION,
    select: Union[Selection, str] = Selection.LOSS,
    early_stopping: Optional[int] = None,
    decay: Optional[Union[Decay, str]] = None,
    balance: Union[Balance, str] = Balance.NONE,
    seed: int = 0,
    precision: Union[TrainingPrecision, str] = TrainingPrecision.AUTO,
    compile: bool = False,
    resume: bool = True,
    progress: bool = True,
) -> TrainResult:
    """Train one model on the normal images of one or more categories together.

    The checkpoint, with the model of the best epoch, and a log beside it are written after every epoch. An
    interrupted run continues from the checkpoint. Its results equal those of an uninterrupted run on the same
    machine with the same number of threads and processes. Processes that torchrun started train together, on
    the same batches; their results differ only by the order of summation.

    Args:
        data: a dataset folder (layouts: `datasets.layouts`), or one category's folder.
        output: the checkpoint file; `checkpoints/ARCH.pt` or `checkpoints/ARCH-CATEGORY.pt` by default.
        arch: the method.
        categories: the categories to train on; all by default.
        teacher_weights: see `adq_edge.models.teacher.teacher_file`.
        options: options of the method that differ from its `default_options`.
        epochs: number of epochs; each stage takes its share. The method's default if None.
        batch_size: images per step, over all processes. The method's default if None.
        learning_rate: the optimizer's initial learning rate. The method's default if None.
        image_size: (height, width) in pixels.
        validation: fraction of each category's normal images held out, 0 to below 1; the number of images is
            rounded down, but is at least one for a category with 10 images. The epoch with the lowest
            loss on them is kept. With 0, or too few images, the last epoch is kept.
        select: criterion for the best epoch; `auroc` uses the test images, for studies only.
        early_stopping: end a stage after this number of epochs without improvement; None for no early end.
        decay: decrease of the learning rate; with `cosine` a resumed training cannot have more `epochs`.
            The method's default if None.
        balance: how often an image is drawn; use `categories` if some categories have few images.
        seed: random seed; the same seed gives the same results on the same machine.
        precision: number format of the networks during training.
        compile: compile the training step with torch.compile (CUDA only).
        resume: continue from `output`, which must have the same settings (`epochs` may be larger); False
            starts from the beginning and replaces it.
        progress: show a progress bar on stderr.

    Raises:
        AdqError: an option is out of range, or this machine does not support it.
        DataError: the dataset or an image cannot be used.
        StorageError: a file cannot be read or written; an earlier checkpoint is not changed.
        CheckpointError: the method has no such option, the teacher cannot be used, `output` is another kind
            of file or has other settings, or training diverged. The last good checkpoint remains.
    """
    dataset = read_dataset(Path(data), categories)
    print_notes(dataset)
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
        decay=choose(Decay, defaults.decay if decay is None else decay).value,
        balance=choose(Balance, balance).value,
        epochs=defaults.epochs if epochs is None else epochs,
        early_stopping=early_stopping,
        layout=chosen_layout_name(),
    )
    name = "-".join([arch, *([categories] if isinstance(categories, str) else categories or ())])
    checkpoint = workspace.CHECKPOINTS / f"{name}.pt" if output is None else Path(output)
    with open_process_group() as processes:
        session = prepare(settings, dataset, processes, teacher_weights)
        return session.run(checkpoint, resume, progress and processes.is_first)


def train_each(
    data: Union[str, Path],
    *,
    output: Optional[Union[str, Path]] = None,
    arch: str = DEFAULT_METHOD,
    categories: Optional[Sequence[str]] = None,
    **settings: Any,
) -> List[TrainResult]:
    """Train one model for each category (one-class setting, the baseline of a unified model).

    An interrupted run continues with the unfinished category.

    Args:
        data: a dataset folder (layouts: `datasets.layouts`), or one category's folder.
        output: the folder for the checkpoints `ARCH-CATEGORY.pt`; `checkpoints/` by default.
        arch: the method.
        categories: the categories; all by default.
        settings: the other arguments of `train`.

    Raises:
        AdqError: as for `train`; the message names the category.
    """
    folder = workspace.CHECKPOINTS if output is None else Path(output)
    dataset = read_dataset(Path(data), categories)
    results = []
    with open_process_group():
        for category in dataset.categories:
            checkpoint = folder / f"{arch}-{category.name}.pt"
            with _category_in_errors(category.name):
                results.append(
                    train(data, output=checkpoint, arch=arch, categories=[category.name], **settings)
                )
    return results


@contextlib.contextmanager
def _category_in_errors(category: str) -> Iterator[None]:
    """Add the category to the message of an error."""
    try:
        yield
    except AdqError as error:
        raise type(error)(f"category {category!r}: {error.what}", where=error.where, fix=error.fix) from error
