"""What `eval` measures of decisions: errors at the threshold in force, and the recognition of products."""

from __future__ import annotations

import dataclasses
from typing import Optional, Tuple

from adq_edge.core.options import ThresholdRule
from adq_edge.metrics.cost import CostPoint
from adq_edge.metrics.intervals import CountedRate
from adq_edge.metrics.operating_point import OperatingPoint


@dataclasses.dataclass(frozen=True)
class ProductQuality:
    """Quality of the decisions on the test images of one product; None for what cannot be measured.

    Scores and maps are the product's own: relative to its good images. An image is rejected unless its
    verdict is `good`.

    Attributes:
        category: the category of the images.
        product: the product that judged them: that of the category's name, else the recognized one; None for
            images of an unknown product and images without scores.
        images: number of test images.
        defective: number of defective test images.
        cannot_judge: number of images with the verdict `cannot judge`; they count as rejected.
        image_auroc: area under the ROC curve of the scores, 0 to 1.
        pixel_auroc: area under the ROC curve of the map pixels, 0 to 1; needs masks.
        aupro: area under the per-region overlap curve, 0 to 1; needs masks.
        threshold: higher scores are defective.
        rule: what chose the threshold.
        origin: what the threshold is worth, in words.
        chosen_on_test_images: True if the threshold was chosen on the dataset that it is judged on here,
            or on a folder inside or around it.
        target: the share of good parts that may be rejected; None with another rule.
        errors: false rejects and missed defects, with 95 % intervals.
        presorted_good: PG2, share of good images cleared at 2 % missed defects, 0 to 1.
        presorted_bad: PB2, share of defective images found at 2 % false rejects, 0 to 1.
        aupimo: see `AupimoMeter`, 0 to 1; needs masks.
        seg_f1: F1 of the pixels above the map's threshold, 0 to 1; needs masks.
        cost_curve: errors at other thresholds; an image is rejected if its score reaches the threshold.
    """

    category: str
    product: Optional[str]
    images: int
    defective: int
    cannot_judge: int
    image_auroc: Optional[float]
    pixel_auroc: Optional[float]
    aupro: Optional[float]
    threshold: Optional[float]
    rule: ThresholdRule
    origin: str
    chosen_on_test_images: bool
    target: Optional[float]
    errors: OperatingPoint
    presorted_good: Optional[float]
    presorted_bad: Optional[float]
    aupimo: Optional[float]
    seg_f1: Optional[float]
    cost_curve: Tuple[CostPoint, ...]

    @property
    def name(self) -> str:
        """The product; with the category if that has another name."""
        if self.product == self.category:
            return self.category
        return f"{self.category}: {self.product or 'unknown product'}"

    def check(self) -> None:
        """Raise a ValueError if a number is impossible."""
        areas = (self.image_auroc, self.pixel_auroc, self.aupro, self.aupimo, self.seg_f1)
        _check_shares(*areas, self.presorted_good, self.presorted_bad, self.target)
        _check_errors(self.errors)
        good, defective = self.errors.false_rejects.total, self.errors.missed_defects.total
        for point in self.cost_curve:
            if not (0 <= point.false_rejects <= good and 0 <= point.missed_defects <= defective):
                raise ValueError("holds a cost curve with more errors than images")


@dataclasses.dataclass(frozen=True)
class RecognitionCount:
    """Number of a category's test images that are nearest to one product.

    Attributes:
        category: the category.
        product: the nearest product.
        good: number of good images.
        defective: number of defective images.
        unknown_good: number of the good images that are too far from it: `unknown product`.
        unknown_defective: the same number of the defective images.
    """

    category: str
    product: str
    good: int
    defective: int
    unknown_good: int
    unknown_defective: int


@dataclasses.dataclass(frozen=True)
class RecognitionQuality:
    """How well products are recognized.

    Attributes:
        accuracy: images that are nearest to their own product, among those whose category is a product.
        unknown_good: good ones among them that are called an unknown product.
        unknown_defective: defective ones among them that are called an unknown product.
        unknown_found: images that are called an unknown product, among those whose category is not a product.
        counts: number of images for each category and nearest product.
    """

    accuracy: CountedRate
    unknown_good: CountedRate
    unknown_defective: CountedRate
    unknown_found: CountedRate
    counts: Tuple[RecognitionCount, ...]


@dataclasses.dataclass(frozen=True)
class DecisionQuality:
    """Quality of an engine's decisions; means are over the products with a value.

    Attributes:
        products: quality for each category and product.
        image_auroc: mean image AUROC.
        pixel_auroc: mean pixel AUROC.
        aupro: mean AUPRO.
        presorted_good: mean PG2.
        presorted_bad: mean PB2.
        aupimo: mean AUPIMO.
        seg_f1: mean pixel F1.
        false_reject_rate: mean rate of false rejects, 0 to 1; without images of an unknown product.
        missed_defect_rate: mean rate of missed defects, 0 to 1; without images of an unknown product.
        errors: false rejects and missed defects of all images together.
        cannot_judge: the images with the verdict `cannot judge`.
        recognition: how well products are recognized.
        notes: what a reader must know, one sentence each.
    """

    products: Tuple[ProductQuality, ...]
    image_auroc: Optional[float]
    pixel_auroc: Optional[float]
    aupro: Optional[float]
    presorted_good: Optional[float]
    presorted_bad: Optional[float]
    aupimo: Optional[float]
    seg_f1: Optional[float]
    false_reject_rate: Optional[float]
    missed_defect_rate: Optional[float]
    errors: OperatingPoint
    cannot_judge: Tuple[str, ...]
    recognition: RecognitionQuality
    notes: Tuple[str, ...]

    def check(self) -> None:
        """Raise a ValueError if a number is impossible."""
        areas = (self.image_auroc, self.pixel_auroc, self.aupro, self.aupimo, self.seg_f1)
        _check_shares(*areas, self.presorted_good, self.presorted_bad)
        _check_shares(self.false_reject_rate, self.missed_defect_rate)
        _check_errors(self.errors)
        found = self.recognition
        for rate in (found.accuracy, found.unknown_good, found.unknown_defective, found.unknown_found):
            _check_rate(rate)
        for product in self.products:
            product.check()


def _check_errors(errors: OperatingPoint) -> None:
    for rate in (errors.false_rejects, errors.missed_defects):
        _check_rate(rate)


def _check_rate(rate: CountedRate) -> None:
    if not 0 <= rate.count <= rate.total:
        raise ValueError("holds more errors than images")
    _check_shares(rate.low, rate.high)


def _check_shares(*values: Optional[float]) -> None:
    if not all(value is None or 0.0 <= value <= 1.0 for value in values):
        raise ValueError("holds a rate or an area under a curve that is not 0 to 1")
