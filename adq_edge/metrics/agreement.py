"""How far the scores, anomaly maps and decisions of two engines A and B agree, in numbers.

A is the reference: what is relative is relative to it.
"""

from __future__ import annotations

import dataclasses
import math
from typing import List, NamedTuple, Optional, Sequence

import numpy as np

from adq_edge.core.errors import EngineError


@dataclasses.dataclass(frozen=True)
class ScoreAgreement:
    """How far two engines' scores of the same images agree; scores have no unit.

    Attributes:
        largest_difference: largest absolute difference.
        mean_difference: mean absolute difference.
        relative_bias: median of (B - A) / |A| where A's score is not 0; None if all are.
        spearman: rank correlation, -1 to 1; None if one engine gives all images the same score.
    """

    largest_difference: float
    mean_difference: float
    relative_bias: Optional[float]
    spearman: Optional[float]


@dataclasses.dataclass(frozen=True)
class MapAgreement:
    """How far two engines' anomaly maps of the same images agree; map values have no unit.

    Attributes:
        largest_difference: largest absolute difference of two pixels.
        mean_difference: mean absolute difference over all pixels of all images.
        snr_db: 10 log10(sum A^2 / sum (A - B)^2) over all pixels of all images, in dB; None: identical.
        median_snr_db: median of the images' own ratios in dB; None: half of the images or more are identical.
            Images where only A's map is 0 everywhere have no ratio and are left out.
    """

    largest_difference: float
    mean_difference: float
    snr_db: Optional[float]
    median_snr_db: Optional[float]


@dataclasses.dataclass(frozen=True)
class Auroc:
    """One area under the ROC curve of both engines, 0 to 1; None where it cannot be measured.

    Attributes:
        a: of engine A.
        b: of engine B.
        difference: B's less A's.
    """

    a: Optional[float]
    b: Optional[float]
    difference: Optional[float]


@dataclasses.dataclass(frozen=True)
class CategoryAgreement:
    """Both engines' quality on one category; the pixel AUROC needs masks."""

    name: str
    images: int
    anomalous: int
    image_auroc: Auroc
    pixel_auroc: Auroc


@dataclasses.dataclass(frozen=True)
class Flips:
    """Images on which B decides otherwise than A.

    Attributes:
        count: how many.
        mistakes: those where A is right and B is wrong; in the others it is the reverse.
    """

    count: int
    mistakes: int


@dataclasses.dataclass(frozen=True)
class ImageAgreement:
    """What both engines say of one test image.

    Attributes:
        image: the image file.
        category: its category.
        defect: its defect; `good` for a normal one.
        score_a: engine A's score.
        score_b: engine B's score.
        relative_difference: (B - A) / |A|; None if only A's score is 0.
        map_difference: largest absolute difference of two pixels of the maps.
        map_snr_db: as of `MapDifference`.
        anomalous_a: A's decision at its own threshold; None without one.
        anomalous_b: B's decision at its own threshold; None without one.
        anomalous_b_at_a: B's decision at A's threshold; None without one.
    """

    image: str
    category: str
    defect: str
    score_a: float
    score_b: float
    relative_difference: Optional[float]
    map_difference: float
    map_snr_db: Optional[float]
    anomalous_a: Optional[bool]
    anomalous_b: Optional[bool]
    anomalous_b_at_a: Optional[bool]

    @property
    def flips_own(self) -> bool:
        """True if B decides otherwise than A, each at its own threshold."""
        return self.anomalous_b not in (None, self.anomalous_a) and self.anomalous_a is not None

    @property
    def flips_at_a(self) -> bool:
        """True if B decides otherwise than A, both at A's threshold."""
        return self.anomalous_b_at_a != self.anomalous_a

    @property
    def flips(self) -> bool:
        """True if B decides otherwise than A, either way."""
        return self.flips_own or self.flips_at_a


class MapDifference(NamedTuple):
    """How far two maps of one image are apart.

    Attributes:
        largest: largest absolute difference of two pixels.
        snr_db: as of `MapAgreement`; None if the maps are identical or A's is 0 everywhere.
    """

    largest: float
    snr_db: Optional[float]


def compare_auroc(a: Optional[float], b: Optional[float]) -> Auroc:
    """Put two engines' AUROC of the same images beside each other."""
    return Auroc(a, b, None if a is None or b is None else b - a)


def mean_auroc(values: Sequence[Auroc]) -> Auroc:
    """Average over the categories where it was measured, each category counting the same."""
    measured = [(value.a, value.b) for value in values if value.difference is not None]
    if not measured:
        return compare_auroc(None, None)
    mean_a, mean_b = np.mean(np.array(measured, np.float64), axis=0)
    return compare_auroc(float(mean_a), float(mean_b))


def count_flips(
    labels: Sequence[bool], decisions_a: Sequence[Optional[bool]], decisions_b: Sequence[Optional[bool]]
) -> Optional[Flips]:
    """Count the images on which two engines decide otherwise; None if one of them decides nothing.

    Args:
        labels: True for an anomalous image.
        decisions_a: True for an image that A calls anomalous.
        decisions_b: the same of B.
    """
    if None in decisions_a or None in decisions_b:
        return None
    flipped = [(label, a) for label, a, b in zip(labels, decisions_a, decisions_b) if a != b]
    return Flips(len(flipped), sum(label == a for label, a in flipped))


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
    """Return (B - A) / |A|: 0 if both scores are 0, None if only A's is."""
    if score_a == score_b:
        return 0.0
    return None if score_a == 0 else (score_b - score_a) / abs(score_a)


def spearman(a: np.ndarray, b: np.ndarray) -> Optional[float]:
    """Return Spearman's rank correlation of two series `[N]`, -1 to 1; None if one of them is constant.

    It is Pearson's correlation of the ranks; equal values share the mean of their ranks (Kendall and Gibbons,
    "Rank Correlation Methods", 5th edition, 1990, chapter 3).
    """
    ranks_a, ranks_b = _centerd_ranks(a), _centerd_ranks(b)
    scale = math.sqrt(float(ranks_a @ ranks_a) * float(ranks_b @ ranks_b))
    if scale == 0:
        return None
    return min(1.0, max(-1.0, float(ranks_a @ ranks_b) / scale))  # the rounding may end just outside


def _centerd_ranks(values: np.ndarray) -> np.ndarray:
    """Return each value's rank less the mean rank; equal values share the mean of their ranks."""
    _, index, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    return np.asarray(ranks[index] - (len(values) + 1) / 2)


class MapComparison:
    """Compares the anomaly maps of any number of images without keeping them; sums are float64."""

    def __init__(self) -> None:
        self._largest = 0.0
        self._absolute = 0.0
        self._signal = 0.0
        self._noise = 0.0
        self._pixels = 0
        self._ratios: List[float] = []

    def update(self, map_a: np.ndarray, map_b: np.ndarray) -> MapDifference:
        """Count one image's two finite float32 maps `[h, w]` and return how far they are apart."""
        a = map_a.astype(np.float64)
        difference = np.abs(a - map_b)
        largest = float(difference.max())
        signal, noise = float(np.sum(a * a)), float(np.sum(difference * difference))
        ratio = _decibels(signal, noise)
        self._largest = max(self._largest, largest)
        self._absolute += float(difference.sum())
        self._signal += signal
        self._noise += noise
        self._pixels += difference.size
        if ratio != -math.inf:
            self._ratios.append(ratio)
        return MapDifference(largest, _finite(ratio))

    def compute(self) -> MapAgreement:
        """Return the agreement over the images so far, at least one.

        Raises:
            EngineError: A's maps are 0 everywhere on every image and B's are not.
        """
        ratio = _decibels(self._signal, self._noise)
        if ratio == -math.inf:
            raise EngineError(
                "those of the first engine are 0 on every image",
                where="anomaly maps",
                fix="Name a working engine first",
            )
        return MapAgreement(
            largest_difference=self._largest,
            mean_difference=self._absolute / self._pixels,
            snr_db=_finite(ratio),
            median_snr_db=_finite(float(np.median(self._ratios))),
        )


def _decibels(signal: float, noise: float) -> float:
    """Return the ratio of two energies in dB: +inf without noise, -inf without signal."""
    if noise == 0:
        return math.inf
    return -math.inf if signal == 0 else 10 * math.log10(signal / noise)


def _finite(value: float) -> Optional[float]:
    return value if math.isfinite(value) else None
