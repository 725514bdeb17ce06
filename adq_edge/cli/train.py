"""`adq-edge train`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Tuple, Union

import typer

from adq_edge.cli.common import needs_training_half, verb
from adq_edge.core.errors import AdqError, DataError
from adq_edge.core.options import Arithmetic

if TYPE_CHECKING:
    from adq_edge.training.session import TrainResult

_STUDY = "The study's number by default."


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(name="train")(train)


@verb
def train(
    data: Optional[Path] = typer.Option(
        None, "--data", help="Dataset in MVTec AD layout; with --qat the checkpoint's own by default."
    ),
    arch: Optional[str] = typer.Option(
        None, "--arch", help="Method: stfpm (default), reverse-distillation or uninformed-students."
    ),
    category: Optional[List[str]] = typer.Option(
        None, "--category", help="Train on this one only (repeatable)."
    ),
    one_class_each: bool = typer.Option(
        False, "--one-class-each", help="Train one model per category instead of one for all."
    ),
    teacher_weights: Optional[str] = typer.Option(
        None,
        "--teacher-weights",
        help="The teacher's ResNet file, or 'demo'; torchvision's ImageNet weights by default.",
    ),
    output: Optional[Path] = typer.Option(
        None, "--output", "-o", help="Checkpoint (a folder with --one-class-each); checkpoints/ by default."
    ),
    backbone: Optional[str] = typer.Option(None, "--backbone", help="ResNet of Reverse Distillation."),
    bottleneck: Optional[str] = typer.Option(
        None, "--bottleneck", help="Reverse Distillation's: anomalib or rd4ad."
    ),
    patch: Optional[int] = typer.Option(None, "--patch", help="Uninformed Students: 17, 33 or 65 pixels."),
    students: Optional[int] = typer.Option(None, "--students", help="Uninformed Students: how many."),
    stride: Optional[int] = typer.Option(
        None, "--stride", help="Uninformed Students: pixels from one descriptor to the next."
    ),
    option: Optional[List[str]] = typer.Option(
        None, "--option", metavar="NAME=VALUE", help="Any other option of the method (repeatable)."
    ),
    epochs: Optional[int] = typer.Option(None, "--epochs", help=_STUDY),
    batch_size: Optional[int] = typer.Option(None, "--batch-size", help=_STUDY),
    learning_rate: Optional[float] = typer.Option(None, "--learning-rate", help=_STUDY),
    image_size: Optional[int] = typer.Option(
        None, "--image-size", help="Height and width of the input in pixels; 256 by default."
    ),
    validation: Optional[float] = typer.Option(
        None,
        "--validation",
        help="Part of the normal images held out to choose the best epoch, 0.1 by default; 0: none.",
    ),
    select: Optional[str] = typer.Option(
        None,
        "--select",
        help="Best epoch by validation loss (the default), or by auroc of the test images.",
    ),
    early_stopping: Optional[int] = typer.Option(
        None, "--early-stopping", help="End after so many epochs without a better one; never by default."
    ),
    decay: Optional[str] = typer.Option(
        None, "--decay", help="How the learning rate falls over the epochs: none (default) or cosine."
    ),
    balance: Optional[str] = typer.Option(
        None,
        "--balance",
        help="Images an epoch: none (default) takes each once, categories as many of each category.",
    ),
    seed: int = typer.Option(0, "--seed", help="Same seed, same machine: same numbers."),
    precision: Optional[str] = typer.Option(
        None, "--precision", help="auto (default), float32, bfloat16 or float16 (CUDA)."
    ),
    compile: bool = typer.Option(False, "--compile", help="Use torch.compile (CUDA)."),
    restart: bool = typer.Option(False, "--restart", help="Start over instead of continuing the checkpoint."),
    qat: Optional[Path] = typer.Option(
        None,
        "--qat",
        help="Train this checkpoint on with the rounding of the INT8 engine that it is to become; --epochs, "
        "--batch-size and --learning-rate (in levels of the integer grid) have defaults of their own then.",
    ),
    target: Optional[Arithmetic] = typer.Option(
        None, "--target", help="Whose integer arithmetic --qat trains for."
    ),
) -> None:
    """Train one unified model on the normal images of all categories, or one model for each."""
    with needs_training_half():
        from adq_edge.training.distributed import is_first_process
        from adq_edge.training.train import train as train_one
        from adq_edge.training.train import train_each

    options = {
        **dict(map(_method_option, option or [])),
        **_given(backbone=backbone, bottleneck=bottleneck, patch=patch, students=students, stride=stride),
    }
    size = None if image_size is None else (image_size, image_size)
    fresh = _given(
        arch=arch,
        image_size=size,
        validation=validation,
        select=select,
        early_stopping=early_stopping,
        decay=decay,
        balance=balance,
        precision=precision,
        compile=compile or None,
    )
    common = _given(
        output=output,
        categories=category,
        teacher_weights=teacher_weights,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
    )
    if qat is not None or target is not None:
        unsuited = [*options, *fresh, *_given(one_class_each=one_class_each or None)]
        _train_quantized(unsuited, qat, target, data=data, seed=seed, resume=not restart, **common)
        return
    if data is None:
        raise DataError("no images to train on", fix="Name a dataset with --data")
    run = train_each if one_class_each else train_one
    done = run(data, options=options, seed=seed, resume=not restart, **fresh, **common)
    if is_first_process():
        for result in done if isinstance(done, list) else [done]:
            typer.echo(_summary(result))


def _method_option(text: str) -> Tuple[str, Union[int, str]]:
    """Read NAME=VALUE; digits are a number."""
    name, separator, value = text.partition("=")
    if not name or not separator:
        raise AdqError(f"--option {text} is no NAME=VALUE", fix="For example: --option border=zeros")
    return name, int(value) if value.isdigit() else value


def _given(**values: Any) -> Dict[str, Any]:
    """Return what the user gave: the rest is left to the defaults of the functions."""
    return {name: value for name, value in values.items() if value is not None}


def _train_quantized(
    unsuited: List[str], checkpoint: Optional[Path], target: Optional[Arithmetic], **settings: Any
) -> None:
    with needs_training_half():
        from adq_edge.qat import train_quantized

    if checkpoint is None:
        raise AdqError("--target is for --qat", fix="Name the checkpoint to train on with --qat")
    if target is None:
        raise AdqError("--qat trains for one kind of engine", fix="Add --target cpu or --target tensorrt")
    if unsuited:
        raise AdqError(
            f"--{unsuited[0].replace('_', '-')} does not go with --qat",
            fix="The checkpoint decides: leave it away",
        )
    result = train_quantized(checkpoint, target=target, **settings)
    typer.echo(
        f"{result.checkpoint}: {result.epochs} epochs of {result.images} images quantized for "
        f"{target.value}, loss {result.loss:.4f}, {result.seconds:.0f} s"
    )


def _summary(result: TrainResult) -> str:
    validation = "" if result.validation_loss is None else f", validation loss {result.validation_loss:.4f}"
    auroc = "" if result.auroc is None else f", test image AUROC {result.auroc:.4f}"
    stopped = "" if result.stopped is None else f"; {result.stopped}"
    return (
        f"{result.checkpoint}: {result.epochs} epochs of {result.images} images, loss {result.loss:.4f}, "
        f"best epoch {result.best_epoch}{validation}{auroc}, {result.seconds:.0f} s{stopped}"
    )
