"""Statistics of the maps of a product's good images, and scores of images relative to them."""

from __future__ import annotations

import dataclasses
from typing import Dict, Optional, Sequence, Tuple

import numpy as np

from adq_edge.artifacts.products import Evidence, EvidenceKind, Positions, Product, Transform, plain
from adq_edge.decision.maps import Maps, apply_transform, choose_transform, enlarge, smooth

_PRIOR_IMAGES = 4.0  # weight of the mean variance of all positions, in images
SMALLEST_SPREAD = 1e-6
_QUANTILES = (0.16, 0.84)  # one standard deviation below and above the median of a normal distribution


@dataclasses.dataclass(frozen=True)
class PositionModel:
    """Mean and spread of a map at each position, float32 `[h, w]`."""

    mean: np.ndarray
    spread: np.ndarray

    @classmethod
    def fit(cls, maps: np.ndarray) -> PositionModel:
        """Return the statistics of transformed maps `[N, h, w]` of good images.

        The variance of each position is shrunk towards the mean of all positions, more for few images.
        """
        count = len(maps)
        mean = maps.mean(axis=0, dtype=np.float64)
        squares = np.square(maps - mean).sum(axis=0, dtype=np.float64)
        variance = squares / max(1, count - 1)
        shrunk = (count * variance + _PRIOR_IMAGES * variance.mean()) / (count + _PRIOR_IMAGES)
        spread = np.sqrt(np.maximum(shrunk, SMALLEST_SPREAD**2))
        return cls(mean.astype(np.float32), spread.astype(np.float32))

    @classmethod
    def of(cls, positions: Positions) -> PositionModel:
        """Return the statistics of a products file."""
        mean, spread = (
            np.array(values, np.float32).reshape(positions.size)
            for values in (positions.mean, positions.spread)
        )
        return cls(mean, spread)

    def record(self) -> Positions:
        """Return the statistics for a products file."""
        height, width = self.mean.shape
        return Positions((height, width), plain(self.mean.ravel()), plain(self.spread.ravel()))

    def standardize(self, maps: np.ndarray) -> np.ndarray:
        """Return maps `[N, h, w]` relative to the mean of each position, in units of its spread."""
        return np.asarray((maps - self.mean) / self.spread)


@dataclasses.dataclass(frozen=True)
class NormalModel:
    """The statistics of a product's maps, before a way to score is chosen.

    Attributes:
        raw: transformation of the engine's map and score.
        deep: transformation of the deepest scale map.
        raw_positions: statistics of the engine's transformed map.
        deep_positions: statistics of the deepest transformed scale map.
    """

    raw: Transform
    deep: Transform
    raw_positions: PositionModel
    deep_positions: PositionModel

    @classmethod
    def fit(cls, maps: Maps, transforms: Optional[Tuple[Transform, Transform]] = None) -> NormalModel:
        """Return the statistics of the maps of good images.

        Args:
            maps: the maps.
            transforms: of the engine's map and the deepest scale map; chosen for these maps by default.
        """
        raw, deep = transforms or (choose_transform(maps.raw), choose_transform(maps.deep))
        positions = [
            PositionModel.fit(apply_transform(values, transform))
            for values, transform in ((maps.raw, raw), (maps.deep, deep))
        ]
        return cls(raw, deep, *positions)

    @classmethod
    def of(cls, product: Product) -> NormalModel:
        """Return the statistics of a product of a products file."""
        positions = (PositionModel.of(one) for one in (product.raw_positions, product.deep_positions))
        return cls(product.raw, product.deep, *positions)

    def evidence(self, maps: Maps, kinds: Sequence[EvidenceKind]) -> Dict[EvidenceKind, np.ndarray]:
        """Return a map `[N, h, w]` of the size of the engine's map for each kind of evidence."""
        size = (maps.raw.shape[1], maps.raw.shape[2])
        found: Dict[EvidenceKind, np.ndarray] = {}
        if EvidenceKind.RAW in kinds or EvidenceKind.RAW_POSITION in kinds:
            raw = apply_transform(maps.raw, self.raw)
            found[EvidenceKind.RAW] = raw
            if EvidenceKind.RAW_POSITION in kinds:
                found[EvidenceKind.RAW_POSITION] = smooth(self.raw_positions.standardize(raw))
        if EvidenceKind.DEEP in kinds or EvidenceKind.DEEP_POSITION in kinds:
            deep = apply_transform(maps.deep, self.deep)
            found[EvidenceKind.DEEP] = enlarge(smooth(deep), size)
            if EvidenceKind.DEEP_POSITION in kinds:
                found[EvidenceKind.DEEP_POSITION] = enlarge(
                    smooth(self.deep_positions.standardize(deep)), size
                )
        return {kind: found[kind] for kind in kinds}


def center_and_spread(peaks: np.ndarray) -> Tuple[float, float]:
    """Return the median of values `[N]` and half the distance of their quantiles 0.16 and 0.84."""
    low, middle, high = np.quantile(peaks, (_QUANTILES[0], 0.5, _QUANTILES[1]))
    return float(middle), max(float(high - low) / 2.0, SMALLEST_SPREAD)


def fuse(maps: Dict[EvidenceKind, np.ndarray], evidence: Sequence[Evidence]) -> np.ndarray:
    """Return the mean of the standardized maps, float32 `[N, h, w]`."""
    total: Optional[np.ndarray] = None
    for one in evidence:
        part = maps[one.kind] - np.float32(one.center)
        part /= np.float32(one.spread)
        total = part if total is None else np.add(total, part, out=total)
    assert total is not None
    return total if len(evidence) == 1 else np.divide(total, np.float32(len(evidence)), out=total)


def peaks_of(maps: np.ndarray) -> np.ndarray:
    """Return the largest value of each map, `[N]`."""
    return np.asarray(maps.reshape(len(maps), -1).max(axis=1))


class ProductScorer:
    """Scores the images of one product; any number of threads may call it.

    Args:
        product: the product.
    """

    def __init__(self, product: Product) -> None:
        self.product = product
        self._model = NormalModel.of(product)
        self._kinds = tuple(one.kind for one in product.evidence)

    def score(self, maps: Maps) -> Tuple[np.ndarray, np.ndarray]:
        """Return the product's maps `[N, h, w]` and scores `[N]`; 0 is the median of good images."""
        fused = fuse(self._model.evidence(maps, self._kinds), self.product.evidence)
        return fused, scores_of(fused, maps.scores, self.product.evidence, self.product.raw)


def scores_of(
    fused: np.ndarray, engine_scores: np.ndarray, evidence: Sequence[Evidence], raw: Transform
) -> np.ndarray:
    """Return the scores `[N]`: peaks of fused maps, or the engine's scores if RAW is the only evidence."""
    if [one.kind for one in evidence] != [EvidenceKind.RAW]:
        return peaks_of(fused)
    transformed = apply_transform(engine_scores, raw)
    return np.asarray((transformed - np.float32(evidence[0].center)) / np.float32(evidence[0].spread))
