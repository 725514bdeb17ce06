"""`demo`: trains, exports, builds, evaluates and times one small model, on drawn images or the user's."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import List, NamedTuple, Optional, Sequence, Tuple

from adq_edge.artifacts import workspace
from adq_edge.artifacts.bundle import Bundle
from adq_edge.benchmark.bench import bench
from adq_edge.benchmark.quotable import find_caveat
from adq_edge.benchmark.results import BenchmarkReport
from adq_edge.builders.build import build
from adq_edge.core.console import console
from adq_edge.core.errors import CheckpointError
from adq_edge.core.options import Precision
from adq_edge.datasets.dataset import Dataset, Sample, print_each_note_once, print_notes, read_dataset
from adq_edge.datasets.synthetic import write_synthetic
from adq_edge.decision.fit import fit
from adq_edge.evaluation.evaluate import Evaluation, evaluate
from adq_edge.evaluation.heat_map_sheets import write_heat_map_sheet
from adq_edge.onnx_export.export import export
from adq_edge.report.machines import device_name
from adq_edge.report.model import Entry, entries_of
from adq_edge.runtimes.registry import load_engine
from adq_edge.study.own_images import (
    check_own_images,
    choose_samples,
    is_labeled,
    judge,
    paste_samples,
)
from adq_edge.training.state_errors import RESTART
from adq_edge.training.train import train

PRECISIONS = (Precision.FP32, Precision.INT8)
ARCH = "stfpm"
"""The method of the figures in README and the recorded output of the demo."""

IMAGE_SIZE = (128, 128)
"""A quarter of the usual pixels: three to four times as many training steps in the same time."""

TRAINED_IMAGES = 9000
"""Training images summed over all epochs: about 70 s on two cores with AMX, 140 to 210 s without."""

MOST_EPOCHS = 200
"""For few images: the checkpoint that is written after each epoch takes 0.2 s."""

BATCH_SIZE = 8
"""Smaller than the usual 32, for more steps in the short training."""

DRAWN_IMAGES = 40
"""Normal images per category of the drawn dataset."""

SHOWN = 6
"""Rows of the sheet of heat maps."""

HEAT_MAPS = "heat_maps"
STEPS, OWN_STEPS = 6, 7


class DemoResult(NamedTuple):
    """The results of the demo.

    Attributes:
        rows: quality and speed of each engine.
        caveat: why the speed is not to be quoted; None if it is.
        engines: the engine files, INT8 last.
        heat_maps: the sheet of heat maps.
        verdicts: verdicts on the user's own images, one sentence each; empty for drawn ones.
    """

    rows: Tuple[Entry, ...]
    caveat: Optional[str]
    engines: Tuple[Path, ...]
    heat_maps: Path
    verdicts: Tuple[str, ...]


class _Steps:
    """Prints the number and the name of each step as it begins."""

    def __init__(self, total: int) -> None:
        self._number, self._total = 0, total

    def __call__(self, name: str) -> None:
        self._number += 1
        console.print(f"step {self._number} of {self._total}: {name}", soft_wrap=True)


def demo(
    folder: Path, data: Optional[Path] = None, *, teacher_weights: str = "demo", restart: bool = False
) -> DemoResult:
    """Train, export, build, evaluate and time a small unified STFPM.

    A second run resumes an interrupted one and repeats only the measurements. All verbs can be used in
    `folder` afterwards. On the user's own images it also learns the products and judges the test images.
    Without defective images, it pastes defects on good ones.

    Args:
        folder: working folder.
        data: dataset folder (layouts: `datasets.layouts`); by default the synthetic one is drawn.
        teacher_weights: a ResNet-18 file, or `demo` for the teacher that adq-edge contains.
        restart: True to train from the beginning even if a checkpoint exists.

    Raises:
        DataError: `data` has no known layout, or too few good images.
        AdqError: a step failed.
    """
    with print_each_note_once():
        return _run(folder, data, teacher_weights, restart)


def _run(folder: Path, data: Optional[Path], teacher_weights: str, restart: bool) -> DemoResult:
    begin = _Steps(STEPS if data is None else OWN_STEPS)
    dataset, name = _images(folder, data, begin)
    begin("training on good images")
    checkpoint = _train(
        folder / workspace.CHECKPOINTS / f"{ARCH}-{name}.pt", dataset, teacher_weights, restart
    )
    begin("exporting the model to ONNX")
    bundle = export(checkpoint, folder / workspace.BUNDLES / checkpoint.stem, data=dataset.root)
    begin("building an FP32 and an INT8 engine")
    engines = _build(bundle, folder / workspace.ENGINES)
    if data is not None:
        begin("learning what good images look like")
        for path in engines:
            fit(path, dataset.root)
    begin("measuring quality and speed")
    report, rows = _measure(engines, dataset, folder / workspace.RESULTS)
    begin("drawing heat maps")
    samples = choose_samples(dataset, SHOWN)
    pasted = [] if samples else paste_samples(dataset, folder / f"pasted-{name}")
    sheet = folder / f"heat_maps-{name}.png"
    _write_sheet(sheet, samples or pasted, engines)
    verdicts = [] if data is None else judge(engines[-1], dataset, pasted, folder / HEAT_MAPS)
    return DemoResult(rows, find_caveat(report), engines, sheet, tuple(verdicts))


def _images(folder: Path, data: Optional[Path], begin: _Steps) -> Tuple[Dataset, str]:
    """Return the images and the name of the model."""
    if data is None:
        begin("drawing images with defects")
        return write_synthetic(folder / "images", train=DRAWN_IMAGES), "demo"
    begin("finding your images")
    dataset = read_dataset(data)
    print_notes(dataset)
    check_own_images(dataset)
    return dataset, data.resolve().name


def _build(bundle: Bundle, folder: Path) -> Tuple[Path, ...]:
    names = {precision: f"{bundle.manifest.name}-{precision.value}.onnx" for precision in PRECISIONS}
    return tuple(
        build(bundle.path, folder / name, precision=precision).path for precision, name in names.items()
    )


def _measure(
    engines: Sequence[Path], dataset: Dataset, results: Path
) -> Tuple[BenchmarkReport, Tuple[Entry, ...]]:
    """Return the speed of the engines, and a row for each; without labeled images, its quality is None."""
    evaluations: List[Optional[Evaluation]] = [None for _ in engines]
    if is_labeled(dataset):
        evaluations = [
            evaluate(path, dataset.root, output=results / f"{path.stem}.eval.json") for path in engines
        ]
    report = bench(engines, quick=True, output=results)
    entries = entries_of(report, device_name(report))
    return report, tuple(dataclasses.replace(entry, quality=one) for entry, one in zip(entries, evaluations))


def _write_sheet(path: Path, samples: Sequence[Sample], engines: Sequence[Path]) -> None:
    with contextlib.ExitStack() as stack:
        loaded = [stack.enter_context(load_engine(engine)) for engine in engines]
        write_heat_map_sheet(path, samples, loaded)


def _train(checkpoint: Path, dataset: Dataset, teacher_weights: str, restart: bool) -> Path:
    """Train a model, or go on with an interrupted training; from the beginning if the images have changed."""
    epochs = min(MOST_EPOCHS, max(1, round(TRAINED_IMAGES / len(dataset.train_images))))

    def run(resume: bool) -> Path:
        return train(
            dataset.root,
            output=checkpoint,
            arch=ARCH,
            categories=[category.name for category in dataset.categories],
            teacher_weights=teacher_weights,
            epochs=epochs,
            batch_size=BATCH_SIZE,
            image_size=IMAGE_SIZE,
            validation=0.0,  # a short training improves until its last epoch: hold no images out
            resume=resume,
        ).checkpoint

    try:
        return run(resume=not restart)
    except CheckpointError as error:
        if restart or error.fix != RESTART:
            raise
        console.print(f"{checkpoint} {error.what}. Training from the beginning", soft_wrap=True)
        return run(resume=False)
