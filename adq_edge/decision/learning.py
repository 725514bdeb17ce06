"""Learn a product from the outputs of an engine on its good images, without real defects.

Several ways to score are tried: the engine's own map, its deepest scale map, and both relative to the
normal values at each position. The best way depends on the size of the product's defects, and on whether it
lies at the same place in each image. Held-out good images are compared with good images that have pasted
defects. The engine's own score stays unless another way is better by more than chance.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Dict, List, Optional, Sequence, Tuple

import numpy as np

from adq_edge.artifacts.products import Candidate, Evidence, EvidenceKind, Product, plain
from adq_edge.decision.health.measures import ImageMeasures, learn_statistics
from adq_edge.decision.maps import Maps
from adq_edge.decision.normal import (
    SMALLEST_SPREAD,
    NormalModel,
    center_and_spread,
    fuse,
    peaks_of,
    scores_of,
)
from adq_edge.decision.recognition import learn_recognition

FEWEST_IMAGES = 5
"""The least number of good images of a product."""

_FOLDS = 10
_SUSPICIOUS = 2.3  # standard deviations of good images
_NEIGHBORS = 5
_LEAST_DISTANCE_SPREAD = 0.2  # of the logarithm of distances: evenly spaced images are not suspicious
_SHARE_OF_NEIGHBORS = 8  # at most an eighth of the images: defective ones may resemble each other
_CLEANING_ROUNDS = 3
_LARGEST_SUSPICIOUS_SHARE = 0.3
_DOUBTFUL_SHARE = 0.1
_GAIN_REDUCTION = 0.5  # standard errors subtracted from a gain: chance must not decide

_RAW, _RAW_POSITION = EvidenceKind.RAW, EvidenceKind.RAW_POSITION
_DEEP, _DEEP_POSITION = EvidenceKind.DEEP, EvidenceKind.DEEP_POSITION
WAYS: Tuple[Tuple[EvidenceKind, ...], ...] = (
    (_RAW,),
    (_RAW, _DEEP),
    (_RAW, _RAW_POSITION),
    (_DEEP, _DEEP_POSITION),
    (_RAW, _DEEP, _DEEP_POSITION),
    (_RAW_POSITION, _DEEP, _DEEP_POSITION),
    (_RAW, _RAW_POSITION, _DEEP, _DEEP_POSITION),
)
"""The ways to score that are tried, the engine's own first."""


@dataclasses.dataclass(frozen=True)
class GoodImages:
    """The outputs of an engine on the good images of a product.

    Attributes:
        names: the image files.
        maps: the maps.
        embeddings: float32 `[N, D]`.
        measures: light, color, sharpness and position of each image; empty if they are not known.
    """

    names: Tuple[str, ...]
    maps: Maps
    embeddings: np.ndarray
    measures: Tuple[ImageMeasures, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    def select(self, images: np.ndarray) -> GoodImages:
        """Return some of the images, by an array of their indices."""
        names = tuple(self.names[index] for index in images)
        measures = tuple(self.measures[index] for index in images) if self.measures else ()
        return GoodImages(names, self.maps.select(images), self.embeddings[images], measures)


@dataclasses.dataclass(frozen=True)
class PastedImages:
    """The outputs of an engine on good images with pasted defects.

    Attributes:
        maps: the maps.
        origins: index of the good image that each one was made from, int `[M]`.
    """

    maps: Maps
    origins: np.ndarray

    def from_images(self, kept: np.ndarray) -> PastedImages:
        """Return the images made from `kept` good images; their origins become indices into `kept`."""
        places = {int(image): place for place, image in enumerate(kept)}
        chosen = np.flatnonzero(np.isin(self.origins, kept))
        origins = np.array([places[int(origin)] for origin in self.origins[chosen]], int)
        return PastedImages(self.maps.select(chosen), origins)


def learn(
    name: str,
    good: GoodImages,
    pasted: Optional[PastedImages],
    sources: Sequence[str],
    *,
    clean: bool = False,
    ways: Sequence[Tuple[EvidenceKind, ...]] = WAYS,
) -> Product:
    """Return a product learned from good images.

    Args:
        name: the product.
        good: outputs for at least `FEWEST_IMAGES` good images.
        pasted: outputs for good images with pasted defects; None keeps the engine's own score.
        sources: the folders of the images.
        clean: leave out images that look defective.
        ways: the ways to score to choose from, the engine's own first.
    """
    suspicious: Tuple[str, ...] = ()
    if clean:
        kept = find_unsuspicious(good)
        suspicious = tuple(sorted(set(good.names) - {good.names[index] for index in kept}))
        pasted = None if pasted is None else pasted.from_images(kept)
        good = good.select(kept)
    trial = _Trial(good.maps, pasted)
    candidates = trial.candidates(ways)
    evidence = trial.evidence_in_units_of_scores(_best(candidates))
    scores, peaks = trial.held_out(evidence)
    return Product(
        name=name,
        images=len(good),
        sources=tuple(sources),
        raw=trial.whole.raw,
        deep=trial.whole.deep,
        evidence=evidence,
        raw_positions=trial.whole.raw_positions.record(),
        deep_positions=trial.whole.deep_positions.record(),
        scores=plain(np.sort(scores)),
        peaks=plain(np.sort(peaks)),
        recognition=learn_recognition(good.embeddings, trial.folds),
        candidates=candidates,
        suspicious=suspicious,
        image_statistics=learn_statistics(good.measures) if good.measures else None,
    ).sealed()


def find_unsuspicious(good: GoodImages) -> np.ndarray:
    """Return the indices of the images that do not look defective, int `[N]`.

    The search is repeated without the suspicious images.
    """
    kept = np.arange(len(good))
    for _ in range(_CLEANING_ROUNDS):
        if len(kept) < 2 * FEWEST_IMAGES:
            break
        clear = _suspicion(good.select(kept)) <= _SUSPICIOUS
        if clear.all() or clear.mean() < 1.0 - _LARGEST_SUSPICIOUS_SHARE:
            break
        kept = kept[clear]
    return kept


def find_doubtful(good: GoodImages) -> np.ndarray:
    """Return the indices of the tenth of the images that looks most defective, worst first."""
    count = math.ceil(_DOUBTFUL_SHARE * len(good))
    return np.asarray(np.argsort(-_suspicion(good), kind="stable")[:count])


def _suspicion(good: GoodImages) -> np.ndarray:
    """Return how defective each image looks among the others, in standard deviations, `[N]`.

    An image is suspicious if its maps are far above those of the others, and its embedding far from its
    nearest neighbors. Medians and quantiles measure this: a few defective images hardly move them.
    """
    trial = _Trial(good.maps, None)
    height = np.mean([_standardized(trial.peaks[kind]) for kind in EvidenceKind], axis=0)
    logarithms = np.log(_neighbor_distances(good.embeddings))
    return np.asarray((height + _standardized(logarithms, _LEAST_DISTANCE_SPREAD)) / 2.0)


def _standardized(values: np.ndarray, least_spread: float = 0.0) -> np.ndarray:
    center, spread = center_and_spread(values)
    return np.asarray((values - center) / max(spread, least_spread))


def _neighbor_distances(embeddings: np.ndarray) -> np.ndarray:
    """Return the mean distance of each embedding `[N, D]` from its nearest neighbors, above 0, `[N]`."""
    count = len(embeddings)
    nearest = max(1, min(_NEIGHBORS, count // _SHARE_OF_NEIGHBORS))
    found = np.zeros(count)
    for index, embedding in enumerate(embeddings):
        distances = np.sqrt(np.square(embeddings - embedding).sum(axis=1))
        found[index] = np.partition(np.delete(distances, index), nearest - 1)[:nearest].mean()
    return np.asarray(found + np.finfo(np.float32).eps)


def _best(candidates: Sequence[Candidate]) -> Tuple[EvidenceKind, ...]:
    """Return the way with the highest gain over the engine's own score, reduced by its uncertainty."""
    own = candidates[0].auroc
    return max(candidates, key=lambda one: one.auroc - own - _GAIN_REDUCTION * one.error).kinds


class _Trial:
    """Good images scored by models that were fitted without them.

    Args:
        maps: maps of the good images.
        pasted: images with pasted defects, each scored without the good image that it was made from.

    Attributes:
        whole: the model of all images.
        folds: indices of the images that are held out together.
        peaks: for each kind of evidence, the largest map value of each held-out good image, `[N]`.
    """

    def __init__(self, maps: Maps, pasted: Optional[PastedImages]) -> None:
        self._maps, self._pasted = maps, pasted
        self.whole = NormalModel.fit(maps)
        order = np.random.default_rng(0).permutation(len(maps))
        self.folds = [np.sort(fold) for fold in np.array_split(order, min(_FOLDS, len(maps)))]
        transforms = (self.whole.raw, self.whole.deep)
        self._models: List[NormalModel] = []
        self.peaks: Dict[EvidenceKind, np.ndarray] = {kind: np.zeros(len(maps)) for kind in EvidenceKind}
        for fold in self.folds:
            model = NormalModel.fit(maps.select(np.delete(np.arange(len(maps)), fold)), transforms)
            self._models.append(model)
            found = model.evidence(maps.select(fold), tuple(EvidenceKind))
            for kind, values in found.items():
                self.peaks[kind][fold] = peaks_of(values)

    def evidence(self, kinds: Sequence[EvidenceKind]) -> Tuple[Evidence, ...]:
        """Return kinds of evidence with the center and spread of their values on good images."""
        found = []
        for kind in kinds:
            center, spread = plain(center_and_spread(self.peaks[kind]))
            found.append(Evidence(kind, center, spread))
        return tuple(found)

    def evidence_in_units_of_scores(self, kinds: Sequence[EvidenceKind]) -> Tuple[Evidence, ...]:
        """Return kinds of evidence whose held-out scores have the median 0 and the spread 1.

        The largest value of a mean of maps is lower than the mean of their largest values.
        """
        evidence = self.evidence(kinds)
        center, spread = center_and_spread(self.held_out(evidence)[0])
        return tuple(
            Evidence(
                one.kind,
                *plain((one.center + center * one.spread, max(one.spread * spread, SMALLEST_SPREAD))),
            )
            for one in evidence
        )

    def held_out(self, evidence: Sequence[Evidence]) -> Tuple[np.ndarray, np.ndarray]:
        """Return the scores `[N]` and the largest map values `[N]` of the held-out good images."""
        scores, peaks = np.zeros(len(self._maps)), np.zeros(len(self._maps))
        for fold, model in zip(self.folds, self._models):
            scores[fold], peaks[fold] = self._score(model, self._maps.select(fold), evidence)
        return scores, peaks

    def candidates(self, ways: Sequence[Tuple[EvidenceKind, ...]]) -> Tuple[Candidate, ...]:
        """Return the ways to score with their AUROC; without pasted defects only the engine's own."""
        if self._pasted is None:
            return (Candidate(tuple(ways[0]), 0.5, 0.0),)
        own: Optional[np.ndarray] = None
        found: List[Candidate] = []
        for kinds in ways:
            wins = self._wins(self.evidence(kinds), self._pasted)
            own = wins if own is None else own
            gains = wins - own
            error = float(gains.std() / np.sqrt(len(gains)))
            found.append(Candidate(kinds, *plain((wins.mean(), error))))
        return tuple(found)

    def _wins(self, evidence: Sequence[Evidence], pasted: PastedImages) -> np.ndarray:
        """Return, for each good image with pasted defects, the share of good images that score lower."""
        good = np.sort(self.held_out(evidence)[0])
        scores = np.zeros(len(pasted.origins))
        for fold, model in zip(self.folds, self._models):
            here = np.flatnonzero(np.isin(pasted.origins, fold))
            if len(here):
                scores[here] = self._score(model, pasted.maps.select(here), evidence)[0]
        lower, not_higher = (np.searchsorted(good, scores, side) for side in ("left", "right"))
        shares = (lower + not_higher) / (2.0 * len(good))
        origins = np.unique(pasted.origins)
        return np.array([shares[pasted.origins == origin].mean() for origin in origins])

    def _score(
        self, model: NormalModel, maps: Maps, evidence: Sequence[Evidence]
    ) -> Tuple[np.ndarray, np.ndarray]:
        fused = fuse(model.evidence(maps, [one.kind for one in evidence]), evidence)
        return scores_of(fused, maps.scores, evidence, self.whole.raw), peaks_of(fused)
