"""Judges labeled images with an engine's products, and measures the decisions."""

from __future__ import annotations

import dataclasses
from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from adq_edge.artifacts.products import LabeledThreshold, Products
from adq_edge.core.errors import EngineError
from adq_edge.core.files import real_path
from adq_edge.core.images.imaging import resize_map
from adq_edge.core.options import ThresholdRule
from adq_edge.decision.conformal import percent
from adq_edge.decision.inspector import Inspector, Verdict, usable_products
from adq_edge.evaluation.decision_quality import (
    DecisionQuality,
    ProductQuality,
    RecognitionCount,
    RecognitionQuality,
)
from adq_edge.evaluation.scoring import ScoredImage
from adq_edge.metrics.aupimo import AupimoMeter
from adq_edge.metrics.cost import cost_curve
from adq_edge.metrics.intervals import count_rate
from adq_edge.metrics.operating_point import count_errors
from adq_edge.metrics.pixel import PixelMetrics, PixelQuality
from adq_edge.metrics.presorted import presorted_bad, presorted_good
from adq_edge.metrics.quality import image_auroc, mean_of_measured
from adq_edge.metrics.segmentation import SegF1Meter
from adq_edge.runtimes.base import Engine


class JudgedImage(NamedTuple):
    """A test image, its verdict, and what is needed to judge it with another threshold.

    Attributes:
        image: the image file.
        category: its category.
        is_defective: True for a defective image.
        verdict: the verdict.
        product: the product that judged it; None if no product did.
        score: its score relative to the product's good images; None if no product judged it.
        p_value: share of the product's good images that score as high or higher; None as for `score`.
        nearest: the nearest product; None for an image without scores.
        is_known: True if the nearest product is near enough.
        anomaly_map: the product's map, float32 `[h, w]`, if a product judged it.
        mask: the mask in packed bits; None if the category has no masks.
        mask_size: (height, width) of the mask.
    """

    image: str
    category: str
    is_defective: bool
    verdict: Verdict
    product: Optional[str]
    score: Optional[float]
    p_value: Optional[float]
    nearest: Optional[str]
    is_known: bool
    anomaly_map: Optional[np.ndarray]
    mask: Optional[np.ndarray]
    mask_size: Tuple[int, int]

    def read_mask(self) -> Optional[np.ndarray]:
        """Return the mask, bool `[H, W]`."""
        if self.mask is None:
            return None
        height, width = self.mask_size
        return np.unpackbits(self.mask, count=height * width).reshape(height, width).astype(bool)

    def judged_at(self, threshold: float) -> JudgedImage:
        """Return the image with the verdict at another threshold of its product."""
        if self.score is None or self.product is None:
            return self
        return self._replace(verdict=Verdict.DEFECTIVE if self.score > threshold else Verdict.GOOD)


def read_usable_products(engine: Engine) -> Tuple[Optional[Products], Optional[str]]:
    """Return the products of a loaded engine, and why those that were fitted cannot be used."""
    try:
        found = usable_products(engine)
    except EngineError as error:
        return None, str(error)
    return (found if found is not None and found.products else None), None


def judge_image(inspector: Inspector, image: ScoredImage) -> JudgedImage:
    """Judge a scored image as one of the product with its category's name, else of the recognized product."""
    output, sample = image.outputs[0], image.sample
    names = inspector.products.names
    index = names.index(sample.category) if sample.category in names else None
    found = inspector.judge(output, image.batch, image.image_size, str(sample.path), index)
    is_scored = found.verdict is not Verdict.CANNOT_JUDGE
    nearest = inspector.recognize(output, image.batch) if is_scored else None
    has_product = is_scored and found.verdict is not Verdict.UNKNOWN_PRODUCT
    return JudgedImage(
        image=str(sample.path),
        category=sample.category,
        is_defective=sample.is_anomalous,
        verdict=found.verdict,
        product=found.product if has_product else sample.category if index is not None else None,
        score=found.score if has_product else None,
        p_value=found.p_value if has_product else None,
        nearest=None if nearest is None else names[nearest.index],
        is_known=nearest is not None and nearest.is_known,
        anomaly_map=found.anomaly_map if has_product else None,
        mask=None if image.mask is None else np.packbits(image.mask),
        mask_size=inspector.engine.sidecar.image_size,
    )


def measure_decisions(
    inspector: Inspector, judged: Sequence[JudgedImage], data: str, notes: Sequence[str] = ()
) -> DecisionQuality:
    """Measure decisions on labeled images.

    Args:
        inspector: the inspector with the thresholds in force.
        judged: the images, with the verdicts of this inspector.
        data: the dataset folder.
        notes: what a reader must know, besides what is found here.
    """
    groups: Dict[Tuple[str, Optional[str]], List[JudgedImage]] = {}
    for image in judged:
        groups.setdefault((image.category, image.product), []).append(image)
    products = tuple(_measure_product(inspector, images, data) for images in groups.values())

    def mean(name: str) -> Optional[float]:
        return mean_of_measured([getattr(one, name) for one in products])

    def mean_rate(name: str) -> Optional[float]:
        return mean_of_measured(
            [getattr(one.errors, name).rate for one in products if one.product is not None]
        )

    recognition = measure_recognition(judged, inspector.products.names)
    return DecisionQuality(
        products=products,
        image_auroc=mean("image_auroc"),
        pixel_auroc=mean("pixel_auroc"),
        aupro=mean("aupro"),
        presorted_good=mean("presorted_good"),
        presorted_bad=mean("presorted_bad"),
        aupimo=mean("aupimo"),
        seg_f1=mean("seg_f1"),
        false_reject_rate=mean_rate("false_rejects"),
        missed_defect_rate=mean_rate("missed_defects"),
        errors=count_errors(*_labels_and_rejects(judged)),
        cannot_judge=tuple(one.image for one in judged if one.verdict is Verdict.CANNOT_JUDGE),
        recognition=recognition,
        notes=(
            *notes,
            *_find_cautions(products),
            *_describe_without_product(products),
            *_describe_unknown(recognition),
        ),
    )


def _measure_product(inspector: Inspector, images: Sequence[JudgedImage], data: str) -> ProductQuality:
    scored = [one for one in images if one.score is not None]
    labels = np.array([one.is_defective for one in scored], bool)
    scores = np.array([one.score for one in scored], np.float64)
    threshold = _Threshold.of(inspector, images[0].product, data)
    pixels = _measure_pixels(scored, threshold.of_map)
    return ProductQuality(
        category=images[0].category,
        product=images[0].product,
        images=len(images),
        defective=sum(one.is_defective for one in images),
        cannot_judge=sum(one.verdict is Verdict.CANNOT_JUDGE for one in images),
        image_auroc=image_auroc(labels, scores),
        pixel_auroc=pixels.quality.pixel_auroc,
        aupro=pixels.quality.aupro,
        threshold=threshold.of_score,
        rule=threshold.rule,
        origin=threshold.origin,
        chosen_on_test_images=threshold.is_of_this_data,
        target=threshold.target,
        errors=count_errors(*_labels_and_rejects(images)),
        presorted_good=presorted_good(labels, scores),
        presorted_bad=presorted_bad(labels, scores),
        aupimo=pixels.aupimo,
        seg_f1=pixels.f1,
        cost_curve=tuple(cost_curve(labels, scores)),
    )


def _labels_and_rejects(images: Sequence[JudgedImage]) -> Tuple[List[bool], List[bool]]:
    return [one.is_defective for one in images], [one.verdict is not Verdict.GOOD for one in images]


@dataclasses.dataclass(frozen=True)
class _Threshold:
    """The thresholds of a product's score and map, and where they come from."""

    of_score: Optional[float]
    of_map: Optional[float]
    rule: ThresholdRule
    origin: str
    is_of_this_data: bool
    target: Optional[float]

    @classmethod
    def of(cls, inspector: Inspector, product: Optional[str], data: str) -> _Threshold:
        if product is None:
            return cls(None, None, ThresholdRule.FALSE_REJECTS, "no product", False, None)
        of_score, of_map = inspector.thresholds_in_force(product)
        labeled = inspector.labeled_threshold(product)
        if labeled is None:
            point = inspector.rate_threshold(product)
            return cls(of_score, of_map, ThresholdRule.FALSE_REJECTS, point.describe(), False, point.rate)
        origin, same = describe_labeled(labeled), _share_images(labeled.data, data)
        return cls(of_score, of_map, ThresholdRule(labeled.rule), origin, same, None)


def _share_images(one: str, other: str) -> bool:
    """Return True if two dataset folders are the same, or one is inside the other."""
    a, b = real_path(one), real_path(other)
    return a == b or a in b.parents or b in a.parents


def describe_labeled(threshold: LabeledThreshold) -> str:
    """Return what chose a threshold, as one sentence without a full stop."""
    what = "highest F1"
    if threshold.rule == ThresholdRule.COST:
        what = f"lowest cost ({threshold.cost_escape:g} a missed defect, {threshold.cost_reject:g} a reject)"
    return f"{what} on {threshold.good} good and {threshold.defective} defective images of {threshold.data}"


class _Pixels(NamedTuple):
    """Quality of a product's maps."""

    quality: PixelQuality
    aupimo: Optional[float]
    f1: Optional[float]


def _measure_pixels(images: Sequence[JudgedImage], threshold: Optional[float]) -> _Pixels:
    """Measure the maps of images with masks, resized to the size of the masks."""
    pixels, aupimo = PixelMetrics(), AupimoMeter()
    above = np.inf if threshold is None else float(np.nextafter(threshold, np.inf))
    f1 = SegF1Meter(above)
    for mask, shown in _masks_and_maps(images):
        pixels.update(mask, shown)
        aupimo.update(mask, shown)
        f1.update(mask, shown)
    return _Pixels(pixels.compute(), aupimo.compute(), f1.compute())


def _masks_and_maps(images: Sequence[JudgedImage]) -> Iterator[Tuple[np.ndarray, np.ndarray]]:
    for image in images:
        mask = image.read_mask()
        if mask is not None and image.anomaly_map is not None:
            yield mask, resize_map(image.anomaly_map, image.mask_size)


def measure_recognition(judged: Sequence[JudgedImage], products: Sequence[str]) -> RecognitionQuality:
    """Measure how well the products are recognized; images without scores do not count."""
    seen = [one for one in judged if one.nearest is not None]
    own = [one for one in seen if one.category in products]
    others = [one for one in seen if one.category not in products]
    good, defective = ([one for one in own if one.is_defective is kind] for kind in (False, True))
    pairs = dict.fromkeys((one.category, one.nearest) for one in seen)
    return RecognitionQuality(
        accuracy=count_rate(sum(one.nearest == one.category for one in own), len(own)),
        unknown_good=count_rate(_count_unknown(good), len(good)),
        unknown_defective=count_rate(_count_unknown(defective), len(defective)),
        unknown_found=count_rate(_count_unknown(others), len(others)),
        counts=tuple(
            _count_recognized([one for one in seen if (one.category, one.nearest) == pair]) for pair in pairs
        ),
    )


def _count_unknown(images: Sequence[JudgedImage]) -> int:
    return sum(not one.is_known for one in images)


def _count_recognized(images: Sequence[JudgedImage]) -> RecognitionCount:
    good, defective = ([one for one in images if one.is_defective is kind] for kind in (False, True))
    return RecognitionCount(
        category=images[0].category,
        product=images[0].nearest or "",
        good=len(good),
        defective=len(defective),
        unknown_good=_count_unknown(good),
        unknown_defective=_count_unknown(defective),
    )


def _find_cautions(products: Sequence[ProductQuality]) -> Iterator[str]:
    """Yield what makes the figures of products doubtful, one sentence each."""
    same = [one.name for one in products if one.chosen_on_test_images]
    if same:
        yield (
            f"CAUTION: the thresholds of these products were chosen on the images that judge them here, so "
            f"expect more errors on other images: {', '.join(same)}"
        )
    for target in sorted({one.target for one in products if one.target is not None}):
        above = [one for one in products if one.target == target < one.errors.false_rejects.low]
        if above:
            yield (
                f"more false rejects than the target of {percent(target)}, by more than chance: good "
                f"images differ from those of fit: {', '.join(one.name for one in above)}"
            )
    if any(one.cannot_judge for one in products):
        count = sum(one.cannot_judge for one in products)
        yield f"{count} of the images cannot be judged: they count as rejected, and are left out of the AUROC"


def _describe_without_product(products: Sequence[ProductQuality]) -> Iterator[str]:
    """Yield the categories whose images no product judged."""
    found = [one.category for one in products if one.product is None]
    if found:
        yield (
            f"images of an unknown product are in the row 'all' as rejected, and not in the means over the "
            f"products: {', '.join(found)}. Learn a product: adq-edge fit ENGINE --product NAME --good DIR"
        )


def _describe_unknown(recognition: RecognitionQuality) -> Iterator[str]:
    """Yield the number of good images that `predict` rejects because it does not recognize their product."""
    unknown = recognition.unknown_good
    if unknown.count:
        yield (
            f"{unknown.count} of {unknown.total} good images are an unknown product for predict without "
            "--product; here they are judged as their own product"
        )
