"""One pass of two engines over labeled images: each image is read once, no map is kept."""

from __future__ import annotations

from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from adq_edge.core.errors import EngineError
from adq_edge.datasets.dataset import Dataset
from adq_edge.decision.inspector import Inspector, Verdict
from adq_edge.evaluation.scoring import QualityMeter, ScoredImage, score_categories
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


def run_paired(
    a: Engine, b: Engine, dataset: Dataset, inspectors: Optional[Tuple[Inspector, Inspector]] = None
) -> PairedRun:
    """Run both engines on every test image.

    Args:
        a: the first engine.
        b: the second engine.
        dataset: the labeled images.
        inspectors: inspectors of both engines, for the verdicts; None for none.

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
                    **({} if inspectors is None else _judge(inspectors, image)),
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


def _judge(inspectors: Tuple[Inspector, Inspector], image: ScoredImage) -> Dict[str, Any]:
    """Return the decisions of both engines as fields of `ImageAgreement`.

    The product has the name of the category, if both engines have it. Otherwise each engine recognizes it.
    """
    category, name = image.sample.category, str(image.sample.path)
    is_product = all(category in one.products.names for one in inspectors)
    a, b = (
        one.judge(output, image.batch, image.image_size, name, one.index_of(category) if is_product else None)
        for one, output in zip(inspectors, image.outputs)
    )
    is_unknown = Verdict.UNKNOWN_PRODUCT in (a.verdict, b.verdict)
    same = a.product == b.product and not is_unknown
    return {
        "anomalous_a": a.verdict is not Verdict.GOOD,
        "anomalous_b": b.verdict is not Verdict.GOOD,
        "product": a.product if same else None,
        "p_value_a": a.p_value if same else None,
        "p_value_b": b.p_value if same else None,
        "verdict_a": a.verdict.value,
        "verdict_b": b.verdict.value,
    }
