"""Shows what an engine does on the user's own images: verdicts and heat maps, without a defect if need be."""

from __future__ import annotations

from pathlib import Path
from typing import AbstractSet, Dict, Iterator, List, Sequence, Tuple

import numpy as np

from adq_edge.artifacts.products import check_product_name
from adq_edge.core.console import console, progress_bar
from adq_edge.core.errors import DataError
from adq_edge.core.files import storage_errors
from adq_edge.core.images.heat_map_files import is_heat_map
from adq_edge.core.images.imaging import read_product_image, write_image
from adq_edge.core.text import number_of
from adq_edge.datasets.dataset import Category, Dataset, Sample
from adq_edge.datasets.pasted_defects import paste_defect
from adq_edge.decision.learning import FEWEST_IMAGES
from adq_edge.evaluation.predict import predict
from adq_edge.evaluation.prediction import GOOD, Prediction
from adq_edge.runtimes.registry import load_engine

PASTED = "pasted"
"""Kind of the defects that are pasted where the user has none."""

MOST_JUDGED = 100
_KINDS = {False: "good images", True: "defective images"}
_PASTED_IMAGES = 6
_PASTED_SIZES = (0.1, 0.25)
"""Sides of a pasted defect, relative to the image's shorter side."""


def check_own_images(dataset: Dataset) -> None:
    """Print the number of images of each category; require enough good ones and readable test images.

    The training reads its images first; a damaged test image would stop the demo after it.

    Raises:
        DataError: a category has too few good images to learn it, or a test image cannot be read.
    """
    for category in dataset.categories:
        _check_name(category.name, dataset.root)
        console.print(_describe(category), soft_wrap=True)
        if len(category.train) < FEWEST_IMAGES:
            raise DataError(
                f"{category.name} has {number_of(len(category.train), 'good image')} to train on",
                where=dataset.root,
                fix=f"Give at least {FEWEST_IMAGES}; 99 promise a false-reject rate of 1 %",
            )
    samples = [sample for category in dataset.categories for sample in category.test]
    with progress_bar("Reading test images", len(samples), "images") as advance:
        for sample in samples:
            read_product_image(sample.path)
            advance()


def _check_name(name: str, where: Path) -> None:
    try:
        check_product_name(name)
    except ValueError as problem:
        raise DataError(str(problem), where=where, fix="Rename the folder, for example to bolt") from problem


def _describe(category: Category) -> str:
    counts: Dict[str, int] = {}
    for sample in category.test:
        counts[sample.defect] = counts.get(sample.defect, 0) + 1
    test = ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"
    return f"{category.name}: {number_of(len(category.train), 'good image')} to train on; test images: {test}"


def is_labeled(dataset: Dataset) -> bool:
    """Return True if a category has good and defective test images."""
    return any(category.why_no_image_metrics is None for category in dataset.categories)


def choose_samples(dataset: Dataset, most: int) -> List[Sample]:
    """Return up to `most` defective samples of different categories and kinds of defect where possible."""
    categories = dataset.categories[:: max(1, len(dataset.categories) // most)]
    queues = [[sample for sample in one.test if sample.is_anomalous] for one in categories]
    chosen: List[Sample] = []
    while any(queues) and len(chosen) < most:
        for queue in filter(None, queues):
            shown = {sample.defect for sample in chosen}
            sample = next((sample for sample in queue if sample.defect not in shown), queue[0])
            queue.remove(sample)
            chosen.append(sample)
    return chosen[:most]


def paste_samples(dataset: Dataset, folder: Path) -> List[Sample]:
    """Write good images with a pasted defect each to a folder, and return them as samples.

    Raises:
        DataError: an image cannot be read.
        StorageError: an image cannot be written.
    """
    pairs = [(category.name, path) for category in dataset.categories for path in category.train]
    pairs = pairs[:: -(-len(pairs) // _PASTED_IMAGES)]
    samples = []
    for number, (category, path) in enumerate(pairs):
        image, donor = read_product_image(path), read_product_image(pairs[number - 1][1])
        file = folder / f"{number:03}.png"
        write_image(file, paste_defect(image, donor, np.random.default_rng(number), _PASTED_SIZES))
        samples.append(Sample(file, category, PASTED, None, file.name))
    return samples


def judge(engine: Path, dataset: Dataset, pasted: Sequence[Sample], heat_maps: Path) -> List[str]:
    """Judge the test images with an engine's products, and return the verdicts in sentences.

    Args:
        engine: the engine file.
        dataset: the images; of many test images, about `MOST_JUDGED` are judged.
        pasted: images with pasted defects, which are judged too.
        heat_maps: folder for the heat maps, one folder for each kind of defect; those of an earlier run are
            deleted.

    Raises:
        EngineError: the engine cannot be loaded.
        StorageError: a heat map cannot be written.
    """
    _delete_heat_maps(heat_maps)
    samples = [sample for category in dataset.categories for sample in category.test]
    chosen = [*samples[:: max(1, -(-len(samples) // MOST_JUDGED))], *pasted]
    judged: List[Tuple[Sample, Prediction]] = []
    with load_engine(engine) as loaded:
        for defect in dict.fromkeys(sample.defect for sample in chosen):
            same = [sample for sample in chosen if sample.defect == defect]
            judged += zip(same, predict(loaded, [sample.path for sample in same], output=heat_maps / defect))
    return list(_sentences(judged, set(pasted)))


def _delete_heat_maps(folder: Path) -> None:
    with storage_errors(folder):
        for path in folder.rglob("*_heat_map*.png"):
            if is_heat_map(path):
                path.unlink()


def _sentences(judged: Sequence[Tuple[Sample, Prediction]], pasted: AbstractSet[Sample]) -> Iterator[str]:
    verdicts: Dict[str, List[bool]] = {}
    for sample, found in judged:
        kind = "images with a pasted defect" if sample in pasted else _KINDS[sample.is_anomalous]
        verdicts.setdefault(kind, []).append(found.verdict == GOOD)
    for kind, passed in verdicts.items():
        good = kind == _KINDS[False]
        right = f"{passed.count(good)} of {len(passed)} {'judged good' if good else 'rejected'}"
        yield f"{kind}: {right}"
    failed = [found.error for _, found in judged if found.error is not None]
    if failed:
        yield f"{number_of(len(failed), 'image')} not judged, which counts as rejected: {failed[0]}"
