"""Agreement of the scores, anomaly maps and decisions of two engines A and B; A is the reference.

A decision flips if A and B decide differently on an image.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from adq_edge.core.errors import EngineError
from adq_edge.metrics.snr import SnrMeter

CONSTANT_MAPS = "the reference anomaly maps have the same value in every pixel of every image"
"""Message of `compare` and `analyze`."""


@dataclasses.dataclass(frozen=True)
class ScoreAgreement:
    """Agreement of two engines' scores of the same images; scores have no unit.

    Attributes:
        largest_difference: largest absolute difference.
        mean_difference: mean absolute difference.
        relative_bias: median of (B - A) / |A| over the images with A not 0; None if A is 0 on all images.
        spearman: rank correlation, -1 to 1; None if the scores of an engine are all equal.
    """

    largest_difference: float
    mean_difference: float
    relative_bias: Optional[float]
    spearman: Optional[float]


@dataclasses.dataclass(frozen=True)
class MapAgreement:
    """Agreement of two engines' anomaly maps of the same images; map values have no unit.

    Attributes:
        largest_difference: largest absolute difference of a pixel.
        mean_difference: mean absolute difference over all pixels of all images.
        snr_db: signal-to-noise ratio of B over all pixels of all images, in dB; None if the maps are equal.
        median_snr_db: median of the SNR of each image, in dB; None if at least half of the maps are equal.
            Images where A's map is 0 everywhere and B's is not are left out.
    """

    largest_difference: float
    mean_difference: float
    snr_db: Optional[float]
    median_snr_db: Optional[float]


@dataclasses.dataclass(frozen=True)
class Auroc:
    """An area under the ROC curve of both engines, 0 to 1; None if it cannot be measured.

    Attributes:
        a: area of engine A.
        b: area of engine B.
        difference: b - a.
    """

    a: Optional[float]
    b: Optional[float]
    difference: Optional[float]


@dataclasses.dataclass(frozen=True)
class CategoryAgreement:
    """Quality of both engines on one category; the pixel AUROC needs masks."""

    name: str
    images: int
    anomalous: int
    image_auroc: Auroc
    pixel_auroc: Auroc


@dataclasses.dataclass(frozen=True)
class Flips:
    """Images whose decision flips.

    Attributes:
        count: number of images.
        mistakes: number of images where A is right and B is wrong; in the others B is right.
    """

    count: int
    mistakes: int


@dataclasses.dataclass(frozen=True)
class ImageAgreement:
    """The results of both engines on one test image.

    Attributes:
        image: the image file.
        category: the category.
        defect: the kind of defect; `good` for a normal image.
        score_a: score by engine A.
        score_b: score by engine B.
        relative_difference: (B - A) / |A| of the scores; None if only A's score is 0.
        map_difference: as `MapDifference.largest`.
        map_snr_db: as `MapDifference.snr_db`.
        anomalous_a: A's decision at its own threshold; None without a threshold.
        anomalous_b: B's decision at its own threshold; None without a threshold.
        anomalous_b_at_a: B's decision at A's threshold; None without a threshold.
        product: the product that judged the image; None without products, and if the two engines recognized
            different products.
        p_value_a: share of the product's good images that score as high or higher in A; None without product.
        p_value_b: the same for B.
        verdict_a: A's verdict; None without products.
        verdict_b: B's verdict; None without products.
    """

    image: str
    category: str
    defect: str
    score_a: float
    score_b: float
    relative_difference: Optional[float]
    map_difference: float
    map_snr_db: Optional[float]
    anomalous_a: Optional[bool] = None
    anomalous_b: Optional[bool] = None
    anomalous_b_at_a: Optional[bool] = None
    product: Optional[str] = None
    p_value_a: Optional[float] = None
    p_value_b: Optional[float] = None
    verdict_a: Optional[str] = None
    verdict_b: Optional[str] = None

    @property
    def flips_own(self) -> bool:
        """True if the decision flips, each engine at its own threshold."""
        return self.anomalous_b not in (None, self.anomalous_a) and self.anomalous_a is not None

    @property
    def flips_at_a(self) -> bool:
        """True if the decision flips, both engines at A's threshold."""
        return self.anomalous_b_at_a not in (None, self.anomalous_a) and self.anomalous_a is not None

    @property
    def flips(self) -> bool:
        """True if the decision flips at either choice of thresholds."""
        return self.flips_own or self.flips_at_a


@dataclasses.dataclass(frozen=True)
class ProductAgreement:
    """Agreement of two engines' decisions on the images of one product, each at its own threshold.

    Attributes:
        product: the category, which has the product's name where there is such a product.
        images: number of test images.
        flips: verdicts that change between `good` and any other.
        now_rejected: number of these that only B rejects.
        spearman: rank correlation of the p-values, -1 to 1; None if those of an engine are all equal.
    """

    product: str
    images: int
    flips: Flips
    now_rejected: int
    spearman: Optional[float]


@dataclasses.dataclass(frozen=True)
class DecisionAgreement:
    """Agreement of two engines' decisions, each with its own products.

    Attributes:
        products: agreement on each product.
        total: agreement on all images.
        notes: differences of the two products files that flip verdicts, one sentence each.
    """

    products: Tuple[ProductAgreement, ...]
    total: ProductAgreement
    notes: Tuple[str, ...] = ()


class MapDifference(NamedTuple):
    """Difference of two engines' maps of one image.

    Attributes:
        largest: largest absolute difference of a pixel.
        snr_db: SNR of B's map in dB; None if the maps are equal or A's map is 0 everywhere.
    """

    largest: float
    snr_db: Optional[float]


def compare_auroc(a: Optional[float], b: Optional[float]) -> Auroc:
    """Return two engines' AUROC of the same images and their difference."""
    return Auroc(a, b, None if a is None or b is None else b - a)


def mean_auroc(values: Sequence[Auroc]) -> Auroc:
    """Return the mean over the categories where both areas were measured."""
    measured = [(value.a, value.b) for value in values if value.difference is not None]
    if not measured:
        return compare_auroc(None, None)
    mean_a, mean_b = np.mean(np.array(measured, np.float64), axis=0)
    return compare_auroc(float(mean_a), float(mean_b))


def count_flips(
    labels: Sequence[bool], decisions_a: Sequence[Optional[bool]], decisions_b: Sequence[Optional[bool]]
) -> Optional[Flips]:
    """Count the images whose decision flips; None if an engine has no decisions.

    Args:
        labels: True for an anomalous image.
        decisions_a: True for an image that A decides to be anomalous.
        decisions_b: the same for B.
    """
    if None in decisions_a or None in decisions_b:
        return None
    flipped = [(label, a) for label, a, b in zip(labels, decisions_a, decisions_b) if a != b]
    return Flips(len(flipped), sum(label == a for label, a in flipped))


def compare_decisions(images: Sequence[ImageAgreement], good: str) -> DecisionAgreement:
    """Return the agreement of two engines' verdicts and p-values, for each category and for all images.

    Args:
        images: images with verdicts, at least one.
        good: the kind of defect of a normal image.
    """
    groups: Dict[str, List[ImageAgreement]] = {}
    for image in images:
        groups.setdefault(image.category, []).append(image)
    products = tuple(_compare_product(name, group, good) for name, group in groups.items())
    return DecisionAgreement(products, _compare_product("all", images, good))


def _compare_product(name: str, images: Sequence[ImageAgreement], good: str) -> ProductAgreement:
    flipped = [image for image in images if image.flips_own]
    mistakes = sum((image.defect != good) == image.anomalous_a for image in flipped)
    pairs = [(one.p_value_a, one.p_value_b) for one in images if None not in (one.p_value_a, one.p_value_b)]
    values = np.array(pairs, np.float64).reshape(-1, 2)
    return ProductAgreement(
        product=name,
        images=len(images),
        flips=Flips(len(flipped), mistakes),
        now_rejected=sum(image.anomalous_b is True for image in flipped),
        spearman=spearman(values[:, 0], values[:, 1]) if len(values) else None,
    )


def compare_scores(scores_a: np.ndarray, scores_b: np.ndarray) -> ScoreAgreement:
    """Compare the finite scores `[N]` of two engines on the same images, N at least 1."""
    a, b = np.asarray(scores_a, np.float64), np.asarray(scores_b, np.float64)
    difference = np.abs(a - b)
    scored = a != 0
    relative = (b - a)[scored] / np.abs(a[scored])
    return ScoreAgreement(
        largest_difference=float(difference.max()),
        mean_difference=float(difference.mean()),
        relative_bias=float(np.median(relative)) if relative.size else None,
        spearman=spearman(a, b),
    )


def relative_difference(score_a: float, score_b: float) -> Optional[float]:
    """Return (B - A) / |A|; 0 if both scores are 0, None if only A's score is 0."""
    if score_a == score_b:
        return 0.0
    return None if score_a == 0 else (score_b - score_a) / abs(score_a)


def spearman(a: np.ndarray, b: np.ndarray) -> Optional[float]:
    """Return Spearman's rank correlation of two series `[N]`, -1 to 1; None if a series is constant.

    It is Pearson's correlation of the ranks; equal values share the mean of their ranks (Kendall and Gibbons,
    "Rank Correlation Methods", 5th edition, 1990, chapter 3).
    """
    ranks_a, ranks_b = _centered_ranks(a), _centered_ranks(b)
    scale = math.sqrt(float(ranks_a @ ranks_a) * float(ranks_b @ ranks_b))
    if scale == 0:
        return None
    return min(1.0, max(-1.0, float(ranks_a @ ranks_b) / scale))  # rounding errors may exceed 1


def _centered_ranks(values: np.ndarray) -> np.ndarray:
    """Return the rank of each value minus the mean rank; equal values share the mean of their ranks."""
    _, index, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    return np.asarray(ranks[index] - (len(values) + 1) / 2)


class MapComparison:
    """Compares the anomaly maps of any number of images without keeping them; sums are float64."""

    def __init__(self) -> None:
        self._snr = SnrMeter()
        self._largest = 0.0
        self._absolute = 0.0
        self._pixels = 0
        self._ratios: List[float] = []

    def update(self, map_a: np.ndarray, map_b: np.ndarray) -> MapDifference:
        """Add two finite float32 maps `[h, w]` of one image and return their difference."""
        difference = np.abs(map_a.astype(np.float64) - map_b)
        largest, snr = float(difference.max()), self._snr.update(map_a, map_b)
        self._largest = max(self._largest, largest)
        self._absolute += float(difference.sum())
        self._pixels += difference.size
        if snr != -math.inf:
            self._ratios.append(snr)
        return MapDifference(largest, _finite(snr))

    def compute(self) -> MapAgreement:
        """Return the agreement over all images so far, at least one.

        Raises:
            EngineError: all pixels of A's maps have the same value: no agreement can be measured.
        """
        if self._snr.is_reference_constant:
            raise EngineError(
                f"{CONSTANT_MAPS} (first engine)", fix="Name an engine first whose maps show defects"
            )
        snr = self._snr.snr_db()
        return MapAgreement(
            largest_difference=self._largest,
            mean_difference=self._absolute / self._pixels,
            snr_db=_finite(snr),
            median_snr_db=_finite(float(np.median(self._ratios))),
        )


def _finite(value: float) -> Optional[float]:
    return value if math.isfinite(value) else None
