"""`demo`: trains, exports, builds, evaluates and times one small model, on drawn images or the user's."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import List, NamedTuple, Optional, Tuple

from adq_edge.artifacts import workspace
from adq_edge.benchmark.bench import bench
from adq_edge.benchmark.quotable import find_caveat
from adq_edge.builders.build import build
from adq_edge.core.options import Precision
from adq_edge.datasets.dataset import Dataset, Sample, read_dataset
from adq_edge.datasets.synthetic import write_synthetic
from adq_edge.evaluation.evaluate import evaluate
from adq_edge.evaluation.heat_map_sheets import write_heat_map_sheet
from adq_edge.onnx_export.export import export
from adq_edge.report.machines import device_name
from adq_edge.report.model import Entry, entries_of
from adq_edge.runtimes.registry import load_engine
from adq_edge.training.train import train

PRECISIONS = (Precision.FP32, Precision.INT8)
IMAGE_SIZE = (128, 128)
"""A quarter of the usual pixels: three to four times as many training steps in the same time."""

TRAINED_IMAGES = 9000
"""Training images summed over all epochs: about 70 s on two cores with AMX, 140 to 210 s without."""

BATCH_SIZE = 8
"""Smaller than the usual 32, for more steps in the short training."""

DRAWN_IMAGES = 40
"""Normal images per category of the drawn dataset."""

SHOWN = 6


class DemoResult(NamedTuple):
    """Quality and speed of each engine, why the speed is not to be quoted, and the files."""

    rows: Tuple[Entry, ...]
    caveat: Optional[str]
    engines: Tuple[Path, ...]
    heat_maps: Path


def demo(
    folder: Path, data: Optional[Path] = None, *, teacher_weights: str = "demo", restart: bool = False
) -> DemoResult:
    """Train, export, build, evaluate and time a small unified STFPM.

    A second run resumes an interrupted one and repeats only the measurements. All verbs can be used in
    `folder` afterwards.

    Args:
        folder: working folder.
        data: dataset folder (layouts: `datasets.layouts`); by default the synthetic one is drawn.
        teacher_weights: a ResNet-18 file, or `demo` for the teacher that adq-edge contains.
        restart: True to train from the beginning even if a checkpoint exists.

    Raises:
        AdqError: a step failed.
    """
    dataset = write_synthetic(folder / "images", train=DRAWN_IMAGES) if data is None else read_dataset(data)
    name = "demo" if data is None else data.resolve().name
    checkpoint = _train(
        folder / workspace.CHECKPOINTS / f"stfpm-{name}.pt", dataset, teacher_weights, restart
    )
    bundle = export(checkpoint, folder / workspace.BUNDLES / checkpoint.stem, data=dataset.root)
    names = {precision: f"{bundle.manifest.name}-{precision.value}.onnx" for precision in PRECISIONS}
    engines = [
        build(bundle.path, folder / workspace.ENGINES / name, precision=precision).path
        for precision, name in names.items()
    ]
    results = folder / workspace.RESULTS
    evaluations = [
        evaluate(path, dataset.root, output=results / f"{path.stem}.eval.json") for path in engines
    ]
    report = bench(engines, quick=True, output=results)
    heat_maps = folder / f"heat_maps-{name}.png"
    with contextlib.ExitStack() as stack:
        loaded = [stack.enter_context(load_engine(path)) for path in engines]
        write_heat_map_sheet(heat_maps, _defective_samples(dataset), loaded)
    entries = entries_of(report, device_name(report))
    rows = tuple(dataclasses.replace(entry, quality=one) for entry, one in zip(entries, evaluations))
    return DemoResult(rows, find_caveat(report), tuple(engines), heat_maps)


def _train(checkpoint: Path, dataset: Dataset, teacher_weights: str, restart: bool) -> Path:
    epochs = max(1, round(TRAINED_IMAGES / len(dataset.train_images)))
    return train(
        dataset.root,
        output=checkpoint,
        categories=[category.name for category in dataset.categories],
        teacher_weights=teacher_weights,
        epochs=epochs,
        batch_size=BATCH_SIZE,
        image_size=IMAGE_SIZE,
        validation=0.0,  # a short training improves until its last epoch: hold no images out
        resume=not restart,
    ).checkpoint


def _defective_samples(dataset: Dataset) -> List[Sample]:
    """Return one defective sample of up to `SHOWN` categories, with different defects where possible."""
    chosen: List[Sample] = []
    for category in dataset.categories[:: max(1, len(dataset.categories) // SHOWN)]:
        samples = [sample for sample in category.test if sample.is_anomalous]
        fresh = [sample for sample in samples if sample.defect not in {other.defect for other in chosen}]
        chosen.extend((fresh or samples)[:1])
    return chosen[:SHOWN]
