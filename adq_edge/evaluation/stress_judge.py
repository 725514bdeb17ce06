"""Judges images for `stress`, and summarizes the outcomes of an engine."""

from __future__ import annotations

import dataclasses
import enum
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from adq_edge.artifacts.bundle import FileReference
from adq_edge.decision.inspector import Inspector, Verdict
from adq_edge.evaluation.decisions import read_usable_products
from adq_edge.evaluation.stress_result import Performance, StressedEngine
from adq_edge.metrics.intervals import CountedRate, count_rate
from adq_edge.metrics.quality import image_auroc, mean_of_measured
from adq_edge.runtimes.base import Engine
from adq_edge.runtimes.single_image import is_finite


class OutcomeFlag(enum.IntFlag):
    """What an engine decided about an image, as bits of a number."""

    JUDGED = 1
    REJECTED = 2
    RECOGNIZED = 4


class Outcome(NamedTuple):
    """What an engine makes of an image.

    Attributes:
        engine_score: its own score; 0 if it is not finite.
        score: the score that decides; 0 if there is none.
        flags: the bits of `OutcomeFlag`.
    """

    engine_score: float
    score: float
    flags: int


class StressJudge:
    """Judges images with an engine: with its products if it has any, else with its threshold.

    Args:
        engine: the loaded engine.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.products, self.note = read_usable_products(engine)
        self._inspector = None if self.products is None else Inspector(engine, self.products)
        threshold = engine.sidecar.threshold
        self._threshold = None if threshold is None else threshold.score

    @property
    def decides(self) -> bool:
        """True if the engine has products or a threshold."""
        return self._inspector is not None or self._threshold is not None

    def knows(self, category: str) -> bool:
        """Return True if a category is a product of the engine."""
        return self.products is not None and category in self.products.names

    def judge(self, batch: np.ndarray, image_size: Tuple[int, int], category: str) -> Outcome:
        """Return what the engine makes of an image.

        Args:
            batch: uint8 `[1, H, W, 3]`, the input of the engine.
            image_size: (height, width) of the image in pixels.
            category: its category; the product of this name judges it, else the recognized one.
        """
        output = self.engine.run(batch)
        if not is_finite(output):
            return Outcome(0.0, 0.0, OutcomeFlag.REJECTED)
        own = float(output.scores[0])
        if self._inspector is None:
            rejected = self._threshold is not None and own >= self._threshold
            return Outcome(
                own, own, OutcomeFlag.JUDGED | (OutcomeFlag.REJECTED if rejected else OutcomeFlag(0))
            )
        index = self._inspector.index_of(category) if self.knows(category) else None
        inspection = self._inspector.judge(output, batch, image_size, category, index)
        flags = OutcomeFlag(0)
        if inspection.verdict is not Verdict.GOOD:
            flags |= OutcomeFlag.REJECTED
        if inspection.score is not None:
            flags |= OutcomeFlag.JUDGED
        nearest = self._inspector.recognize(output, batch)
        if nearest.is_known and nearest.index == index:
            flags |= OutcomeFlag.RECOGNIZED
        return Outcome(own, inspection.score or 0.0, flags)

    def describe(self, unchanged: Performance) -> StressedEngine:
        """Return the description of the engine."""
        engine, target = self.engine, None
        if self.products is not None and self._inspector is not None:
            labeled = [self._inspector.labeled_threshold(name) for name in self.products.names]
            target = self.products.false_rejects if not any(labeled) else None
        return StressedEngine(
            engine=FileReference(str(engine.path), engine.sidecar.engine_sha256),
            precision=engine.sidecar.precision.value,
            runtime=f"{engine.runtime} {engine.runtime_version}",
            false_rejects=target,
            has_products=self.products is not None,
            unchanged=unchanged,
            note=self.note,
        )


@dataclasses.dataclass(frozen=True)
class LabeledOutcome:
    """The label of an image, and its outcome.

    Attributes:
        category: its category.
        is_defective: True for a defective image.
        outcome: what an engine makes of it.
    """

    category: str
    is_defective: bool
    outcome: Outcome


def summarize(judge: StressJudge, images: Sequence[LabeledOutcome]) -> Performance:
    """Return what an engine does with images that were changed in one way."""
    groups: Dict[str, List[LabeledOutcome]] = {}
    for image in images:
        groups.setdefault(image.category, []).append(image)
    ours = [image for image in images if judge.knows(image.category)]
    wrong = sum(not image.outcome.flags & OutcomeFlag.RECOGNIZED for image in ours)
    return Performance(
        image_auroc=mean_of_measured([_auroc(group, "score") for group in groups.values()]),
        engine_auroc=mean_of_measured([_auroc(group, "engine_score") for group in groups.values()]),
        false_rejects=_count(judge, [image for image in images if not image.is_defective], rejected=True),
        missed_defects=_count(judge, [image for image in images if image.is_defective], rejected=False),
        not_recognized=count_rate(wrong, len(ours)) if ours else None,
        cannot_judge=sum(not image.outcome.flags & OutcomeFlag.JUDGED for image in images),
    )


def _auroc(images: Sequence[LabeledOutcome], score: str) -> Optional[float]:
    judged = [image for image in images if image.outcome.flags & OutcomeFlag.JUDGED]
    labels = np.array([image.is_defective for image in judged], bool)
    return image_auroc(labels, np.array([getattr(image.outcome, score) for image in judged], np.float64))


def _count(judge: StressJudge, images: Sequence[LabeledOutcome], rejected: bool) -> Optional[CountedRate]:
    """Return the rate of rejected, or of accepted, images; None without decisions."""
    if not judge.decides or not images:
        return None
    found = [bool(image.outcome.flags & OutcomeFlag.REJECTED) for image in images]
    return count_rate(found.count(rejected), len(found))
