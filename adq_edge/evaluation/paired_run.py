"""One pass of two engines over labelled images: each image is read once, no map is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Callable, List, NamedTuple, Tuple

import numpy as np

from adq_edge.core.console import progress_bar
from adq_edge.core.errors import DataError, EngineError
from adq_edge.core.imaging import read_image, read_mask, resize_image, resize_map, resize_mask
from adq_edge.datasets.mvtec import Category, Dataset, Sample
from adq_edge.metrics.agreement import (
    CategoryAgreement,
    MapAgreement,
    MapComparison,
    MapDifference,
    compare_auroc,
)
from adq_edge.metrics.pixel import PixelMetrics
from adq_edge.metrics.quality import image_auroc
from adq_edge.runtimes.base import Engine, Output


class ScoredImage(NamedTuple):
    """One test image, both engines' scores of it and how far their maps of it are apart."""

    sample: Sample
    score_a: float
    score_b: float
    maps: MapDifference


class PairedRun(NamedTuple):
    """What two engines say of a dataset.

    Attributes:
        categories: both engines' quality on each category with test images.
        rows: every test image, category after category.
        maps: agreement of the maps of all of them, at the maps' own size.
    """

    categories: List[CategoryAgreement]
    rows: List[ScoredImage]
    maps: MapAgreement


def check_match(a: Engine, b: Engine, other_model: bool) -> None:
    """Refuse two engines whose maps cannot be compared, or that `other_model` does not allow.

    Raises:
        EngineError: other sizes of images or maps, or another source model.
    """
    sizes = (
        ("images", a.sidecar.image_size, b.sidecar.image_size),
        ("anomaly maps", a.sidecar.map_size, b.sidecar.map_size),
    )
    for what, size_a, size_b in sizes:
        if size_a != size_b:
            raise EngineError(
                f"its {what} have {size_b[1]}x{size_b[0]} pixels, those of {a.path} {size_a[1]}x{size_a[0]}",
                where=b.path,
                fix="Build both engines from one bundle",
            )
    if a.sidecar.model.sha256 != b.sidecar.model.sha256 and not other_model:
        raise EngineError(
            f"not built from the same model as {a.path}",
            where=b.path,
            fix="Build both from one bundle, or say that it is meant with --other-model",
        )


def run_paired(a: Engine, b: Engine, dataset: Dataset) -> PairedRun:
    """Run both engines on every test image.

    Raises:
        DataError: no test images, or an image or mask that cannot be used.
        EngineError: a map or a score is NaN or infinite.
    """
    count = sum(len(category.test) for category in dataset.categories)
    if not count:
        raise DataError(
            "no test images", where=dataset.root, fix="Put labelled images in CATEGORY/test/good and DEFECT"
        )
    maps = MapComparison()
    categories: List[CategoryAgreement] = []
    rows: List[ScoredImage] = []
    with progress_bar(f"Comparing {a.path.name} with {b.path.name}", count, "images") as advance:
        for category in dataset.categories:
            if category.test:
                agreement, category_rows = _run_category((a, b), category, maps, advance)
                categories.append(agreement)
                rows.extend(category_rows)
    return PairedRun(categories, rows, maps.compute())


def _run_category(
    engines: Tuple[Engine, Engine], category: Category, maps: MapComparison, advance: Callable[[], None]
) -> Tuple[CategoryAgreement, List[ScoredImage]]:
    size = engines[0].sidecar.image_size
    pixels = tuple(PixelMetrics() for _ in engines) if category.has_masks else ()
    rows = []
    for sample in category.test:
        original = read_image(sample.path)
        image = resize_image(original, size)
        a, b = (_run(engine, image, sample.path) for engine in engines)
        if pixels:
            mask = np.zeros(size, bool)
            if sample.mask is not None:
                mask = resize_mask(read_mask(sample.mask, (original.shape[0], original.shape[1])), size)
            for metrics, output in zip(pixels, (a, b)):
                metrics.update(mask, resize_map(output.maps[0], size))
        rows.append(
            ScoredImage(sample, float(a.scores[0]), float(b.scores[0]), maps.update(a.maps[0], b.maps[0]))
        )
        advance()
    return _category_agreement(category, rows, pixels), rows


def _run(engine: Engine, image: np.ndarray, path: Path) -> Output:
    output = engine.run(image[None])
    if not (np.isfinite(output.maps).all() and np.isfinite(output.scores).all()):
        raise EngineError(
            f"its anomaly map or score of {path} is NaN or infinite",
            where=engine.path,
            fix="Build the engine in a higher precision",
        )
    return output


def _category_agreement(
    category: Category, rows: List[ScoredImage], pixels: Tuple[PixelMetrics, ...]
) -> CategoryAgreement:
    labels = np.array([row.sample.is_anomalous for row in rows])
    scores = np.array([(row.score_a, row.score_b) for row in rows])
    pixel_auroc = [metrics.compute().pixel_auroc for metrics in pixels] or [None, None]
    return CategoryAgreement(
        name=category.name,
        images=len(rows),
        anomalous=int(labels.sum()),
        image_auroc=compare_auroc(*(image_auroc(labels, scores[:, engine]) for engine in range(2))),
        pixel_auroc=compare_auroc(*pixel_auroc),
    )
