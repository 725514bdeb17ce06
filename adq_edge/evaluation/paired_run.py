"""One pass of two engines over labeled images: each image is read once, no map is kept."""

from __future__ import annotations

from typing import List, NamedTuple

from adq_edge.core.errors import EngineError
from adq_edge.datasets.dataset import Dataset
from adq_edge.evaluation.scoring import QualityMeter, score_categories
from adq_edge.metrics.agreement import (
    CategoryAgreement,
    ImageAgreement,
    MapAgreement,
    MapComparison,
    compare_auroc,
    relative_difference,
)
from adq_edge.runtimes.base import Engine


class PairedRun(NamedTuple):
    """The results of two engines on a dataset.

    Attributes:
        categories: quality of both engines on each category with test images.
        images: every test image, category after category; without decisions.
        labels: True for a defective image, in the order of `images`.
        maps: agreement of the maps over all images, at the size of the maps.
    """

    categories: List[CategoryAgreement]
    images: List[ImageAgreement]
    labels: List[bool]
    maps: MapAgreement


def check_match(a: Engine, b: Engine, other_model: bool) -> None:
    """Refuse two engines whose maps cannot be compared, or of two models unless `other_model` is True.

    Raises:
        EngineError: the sizes of images or maps differ, or the source models do.
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
            fix="Build both from one bundle, or allow two models with --other-model",
        )


def run_paired(a: Engine, b: Engine, dataset: Dataset) -> PairedRun:
    """Run both engines on every test image.

    Raises:
        DataError: no test images, or an image or mask that cannot be used.
        EngineError: a map or a score is NaN or infinite.
    """
    maps = MapComparison()
    categories: List[CategoryAgreement] = []
    images: List[ImageAgreement] = []
    labels: List[bool] = []
    title = f"Comparing {a.path.name} with {b.path.name}"
    for name, scored in score_categories((a, b), dataset, title):
        meter_a, meter_b = QualityMeter(name, 0), QualityMeter(name, 1)
        for image in scored:
            map_a, map_b = (output.maps[0] for output in image.outputs)
            score_a, score_b = meter_a.update(image), meter_b.update(image)
            difference = maps.update(map_a, map_b)
            labels.append(image.sample.is_anomalous)
            images.append(
                ImageAgreement(
                    image=str(image.sample.path),
                    category=name,
                    defect=image.sample.defect,
                    score_a=score_a,
                    score_b=score_b,
                    relative_difference=relative_difference(score_a, score_b),
                    map_difference=difference.largest,
                    map_snr_db=difference.snr_db,
                )
            )
        quality_a, quality_b = meter_a.compute(), meter_b.compute()
        categories.append(
            CategoryAgreement(
                name=name,
                images=quality_a.images,
                anomalous=quality_a.anomalous,
                image_auroc=compare_auroc(quality_a.image_auroc, quality_b.image_auroc),
                pixel_auroc=compare_auroc(quality_a.pixel_auroc, quality_b.pixel_auroc),
            )
        )
    return PairedRun(categories, images, labels, maps.compute())
