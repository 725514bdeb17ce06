"""`adq-edge train`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence, Tuple, Union

import typer

from adq_edge.cli import options
from adq_edge.cli.common import needs_training_half
from adq_edge.cli.completion import complete_paths
from adq_edge.cli.find_fast import search
from adq_edge.cli.output import Output
from adq_edge.core.errors import AdqError, DataError
from adq_edge.core.methods import DEFAULT_METHOD, IMAGE_SIZE, METHODS, QAT, VALIDATION
from adq_edge.core.options import Arithmetic
from adq_edge.core.text import number_of

if TYPE_CHECKING:
    from adq_edge.qat.train import QatResult
    from adq_edge.training.session import TrainResult


def _by_method(field: str) -> str:
    """Return the default of a training setting for each method and for --qat."""
    values = [f"{getattr(method.training, field):g} for {name}" for name, method in METHODS.items()]
    return f"Default: {', '.join(values)}; {getattr(QAT, field):g} with --qat"


def _option_default(name: str) -> str:
    """Return the default of a method's option, such as "Default: 33."."""
    return next(f"Default: {method.options[name]}." for method in METHODS.values() if name in method.options)


def train(
    data: Optional[Path] = typer.Option(
        None,
        metavar=options.FOLDER,
        help="Dataset folder: MVTec AD, VisA, good/ and bad/ or another layout of docs/your-images.md; "
        "required. With --qat the default is the dataset of the checkpoint.",
    ),
    arch: Optional[str] = typer.Option(
        None, **options.choices(*METHODS), help=f"Method. Default: {DEFAULT_METHOD}."
    ),
    category: Optional[List[str]] = typer.Option(
        None, metavar="NAME", help="Train on this category only; may be repeated. Default: all."
    ),
    layout: options.Layout = None,
    one_class_each: bool = typer.Option(
        False, "--one-class-each", help="Train one model per category instead of one model for all."
    ),
    teacher_weights: options.TeacherWeights = None,
    output: Optional[Path] = typer.Option(
        None,
        "--output",
        "-o",
        metavar=options.FILE,
        help="Checkpoint (a folder with --one-class-each). Default: in checkpoints/.",
    ),
    backbone: options.Backbone = None,
    bottleneck: Optional[str] = typer.Option(
        None,
        **options.choices("anomalib", "rd4ad"),
        help=f"Bottleneck of reverse-distillation. {_option_default('bottleneck')}",
    ),
    shared: Optional[str] = typer.Option(
        None,
        **options.choices("layer1", "layer2"),
        help=f"PaSTe: deepest layer that the student shares with the teacher. {_option_default('shared')}",
    ),
    layers: Optional[str] = typer.Option(
        None,
        **options.choices(*options.LAYERS, several=True),
        help="PaSTe: layers that give a map. A narrow branch predicts those that are shared. "
        f"{_option_default('layers')}",
    ),
    width: Optional[str] = typer.Option(
        None,
        **options.choices("1.0", "0.5", "0.25"),
        help="PaSTe: channels inside the student's own layers, relative to the teacher's; fewer are faster. "
        f"{_option_default('width')}",
    ),
    patch: Optional[int] = typer.Option(
        None,
        **options.choices("17", "33", "65"),
        help=f"Patch size of uninformed-students in pixels. {_option_default('patch')}",
    ),
    students: Optional[int] = typer.Option(
        None,
        metavar=options.COUNT,
        help=f"Number of students of uninformed-students. {_option_default('students')}",
    ),
    stride: Optional[int] = typer.Option(
        None,
        **options.choices("1", "2", "4"),
        help="Distance between the descriptors of uninformed-students in pixels. "
        f"{_option_default('stride')}",
    ),
    option: Optional[List[str]] = typer.Option(
        None, metavar="NAME=VALUE", help="Any other option of the method; may be repeated. Default: none."
    ),
    epochs: Optional[int] = typer.Option(
        None,
        metavar=options.COUNT,
        help=f"Number of epochs. {_by_method('epochs')}.",
    ),
    batch_size: Optional[int] = typer.Option(
        None,
        metavar=options.COUNT,
        help=f"Images per step. {_by_method('batch_size')}.",
    ),
    learning_rate: Optional[float] = typer.Option(
        None,
        metavar="RATE",
        help=f"Initial learning rate. {_by_method('learning_rate')}, in levels of the integer grid per step.",
    ),
    image_size: Optional[int] = typer.Option(
        None, metavar=options.PIXELS, help=f"Height and width of the input in pixels. Default: {IMAGE_SIZE}."
    ),
    validation: Optional[float] = typer.Option(
        None,
        metavar="SHARE",
        help="Share of the normal images that is held out to choose the best epoch, 0 to less than 1. With 0 "
        f"the last epoch is kept. Default: {VALIDATION:g}.",
    ),
    select: Optional[str] = typer.Option(
        None,
        **options.choices("loss", "auroc"),
        help="Criterion of the best epoch: loss (validation images) or auroc (test images). Default: loss.",
    ),
    early_stopping: Optional[int] = typer.Option(
        None,
        metavar=options.COUNT,
        help="Stop after this number of epochs without improvement. Default: never.",
    ),
    decay: Optional[str] = typer.Option(
        None,
        **options.choices("none", "cosine"),
        help="Decay of the learning rate over the epochs. Default: none; paste cosine.",
    ),
    balance: Optional[str] = typer.Option(
        None,
        **options.choices("none", "categories"),
        help="Images per epoch: none (each image once) or categories (equally many of each category). "
        "Default: none.",
    ),
    seed: int = typer.Option(
        0, metavar=options.NUMBER, help="Random seed; the same seed gives the same numbers on one machine."
    ),
    precision: Optional[str] = typer.Option(
        None,
        **options.choices("auto", "float32", "bfloat16", "float16"),
        help="Number format of the training; float16 needs CUDA. Default: auto.",
    ),
    compile: bool = typer.Option(False, "--compile", help="Use torch.compile (CUDA only)."),
    restart: options.Restart = False,
    find_fast: bool = typer.Option(
        False,
        "--find-fast",
        help="Search the fastest PaSTe at each image AUROC, on your images and this machine. It tries all "
        "--image-size, --shared, --width and --layers that are not given. INT8 engines of the best ones are "
        "written to the folder OUTPUT, by default find-fast/.",
    ),
    within: Optional[float] = typer.Option(
        None,
        metavar="MS",
        help="With --find-fast: name the best engine whose median latency is at most this. Default: none.",
    ),
    qat: Optional[Path] = typer.Option(
        None,
        metavar="CHECKPOINT",
        autocompletion=complete_paths("CHECKPOINT"),
        help="Checkpoint to continue with quantization-aware training, which rounds as an INT8 engine does. "
        "Default: train a new model.",
    ),
    target: Optional[Arithmetic] = typer.Option(
        None,
        metavar=options.names(Arithmetic),
        help="Integer arithmetic that --qat trains for; required with --qat.",
    ),
) -> Optional[Output]:
    """Train a model on the normal images of a dataset.

    One unified model learns all categories, or with --one-class-each one model each category. The same
    command goes on with an interrupted training.
    """
    with needs_training_half():
        from adq_edge.training.distributed import is_first_process
        from adq_edge.training.train import train as train_one
        from adq_edge.training.train import train_each

    method_options = {
        **dict(map(_method_option, option or [])),
        **_given(backbone=backbone, bottleneck=bottleneck, patch=patch, students=students, stride=stride),
        **_given(shared=shared, layers=layers, width=width),
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
    if find_fast or within is not None:
        fixed = _given(image_size=image_size, shared=shared, width=width, layers=layers)
        refused = {**method_options, **fresh, **_given(qat=qat, target=target, batch_size=batch_size)}
        refused.update(_given(learning_rate=learning_rate, one_class_each=one_class_each or None))
        chosen = _given(output=output, categories=category, teacher_weights=teacher_weights, epochs=epochs)
        chosen.update(fixed, seed=seed, restart=restart)
        return search(find_fast, [name for name in refused if name not in fixed], within, data, **chosen)
    if qat is not None or target is not None:
        unsuited = [*method_options, *fresh, *_given(one_class_each=one_class_each or None)]
        return _train_quantized(unsuited, qat, target, data=data, seed=seed, resume=not restart, **common)
    if data is None:
        raise DataError("no images to train on", fix="Name a dataset with --data")
    run = train_each if one_class_each else train_one
    done = run(data, options=method_options, seed=seed, resume=not restart, **fresh, **common)
    if not is_first_process():
        return None
    results = done if isinstance(done, list) else [done]
    return _output(results, [_summary(result) for result in results])


def _method_option(text: str) -> Tuple[str, Union[int, str]]:
    """Parse NAME=VALUE; a value of digits becomes an int."""
    name, separator, value = text.partition("=")
    if not name or not separator:
        raise AdqError(
            f"--option {text} does not have the form NAME=VALUE", fix="For example: --option border=zeros"
        )
    return name, int(value) if value.isdigit() else value


def _given(**values: Any) -> Dict[str, Any]:
    """Return the values that are not None; for the others the called function has defaults."""
    return {name: value for name, value in values.items() if value is not None}


def _train_quantized(
    unsuited: List[str], checkpoint: Optional[Path], target: Optional[Arithmetic], **settings: Any
) -> Output:
    with needs_training_half():
        from adq_edge.qat import train_quantized

    if checkpoint is None:
        raise AdqError("--target is for --qat", fix="Name the checkpoint to train on with --qat")
    if target is None:
        raise AdqError("--qat trains for one kind of engine", fix="Add --target cpu or --target tensorrt")
    if unsuited:
        raise AdqError(
            f"--{unsuited[0].replace('_', '-')} cannot be combined with --qat",
            fix="Omit it: the checkpoint determines it",
        )
    result = train_quantized(checkpoint, target=target, **settings)
    line = (
        f"{result.checkpoint}: {number_of(result.epochs, 'epoch')} of {number_of(result.images, 'image')} "
        f"quantized for {target.value}, loss {result.loss:.4f}, {result.seconds:.0f} s"
    )
    return _output([result], [line])


def _output(results: Sequence[Union[TrainResult, QatResult]], lines: List[str]) -> Output:
    trainings = [dataclasses.asdict(result) for result in results]
    document = {"schema": "adq-edge/train", "version": 1, "trainings": trainings}
    return Output(document, lines=lines, next_step=("export", results[0].checkpoint))


def _summary(result: TrainResult) -> str:
    validation = "" if result.validation_loss is None else f", validation loss {result.validation_loss:.4f}"
    auroc = "" if result.auroc is None else f", test image AUROC {result.auroc:.4f}"
    stopped = "" if result.stopped is None else f"; {result.stopped}"
    return (
        f"{result.checkpoint}: {number_of(result.epochs, 'epoch')} of {number_of(result.images, 'image')}, "
        f"loss {result.loss:.4f}, best epoch {result.best_epoch}{validation}{auroc}, "
        f"{result.seconds:.0f} s{stopped}"
    )
