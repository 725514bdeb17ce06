"""The result of `stress`: quality and decisions at each severity, and how far a line may drift."""

from __future__ import annotations

import dataclasses
import math
from typing import List, NamedTuple, Optional, Sequence, Tuple

from adq_edge.artifacts.bundle import FileReference
from adq_edge.core.errors import ResultError
from adq_edge.core.records import Record, record
from adq_edge.hardware.environment import Environment
from adq_edge.metrics.intervals import CountedRate

LARGEST_AUROC_LOSS = 0.02
"""Loss of image AUROC up to which a line may drift."""
_LEAST_LIMIT = 0.01
"""Limit of the false rejects of an engine without a target that rejects no unchanged image."""


@dataclasses.dataclass(frozen=True)
class Performance:
    """What an engine does with images that were changed in one way; None for what cannot be measured.

    Attributes:
        image_auroc: image AUROC of the scores that decide, 0 to 1, the mean over the categories. They are the
            products' scores, or the engine's own if it has no products.
        engine_auroc: the same of the engine's own scores.
        false_rejects: good images that are rejected.
        missed_defects: defective images that are accepted.
        not_recognized: images that are not recognized as their product.
        cannot_judge: number of images that cannot be judged; they count as rejected.
    """

    image_auroc: Optional[float]
    engine_auroc: Optional[float]
    false_rejects: Optional[CountedRate]
    missed_defects: Optional[CountedRate]
    not_recognized: Optional[CountedRate]
    cannot_judge: int

    @property
    def false_reject_rate(self) -> Optional[float]:
        """Share of good images that are rejected, 0 to 1."""
        return None if self.false_rejects is None else self.false_rejects.rate

    def check(self) -> None:
        """Raise a ValueError if a number is impossible."""
        rates = [
            rate
            for rate in (self.false_rejects, self.missed_defects, self.not_recognized)
            if rate is not None
        ]
        areas = [area for area in (self.image_auroc, self.engine_auroc) if area is not None]
        if not all(0.0 <= area <= 1.0 for area in areas) or self.cannot_judge < 0:
            raise ValueError("holds an area under a curve that is not 0 to 1")
        if not all(0 <= rate.count <= rate.total for rate in rates):
            raise ValueError("holds more errors than images")


@dataclasses.dataclass(frozen=True)
class StressedEngine:
    """An engine that was stressed.

    Attributes:
        engine: the engine file.
        precision: number format of the networks.
        runtime: the runtime and its version.
        false_rejects: the share of good parts that its thresholds may reject, 0 to 1; None for thresholds
            that were chosen in another way, and without products.
        has_products: True if its products decide, False for one threshold for all images.
        unchanged: what it does with the images as they are.
        note: why its products are not used; None if they are, or if it has none.
    """

    engine: FileReference
    precision: str
    runtime: str
    false_rejects: Optional[float]
    has_products: bool
    unchanged: Performance
    note: Optional[str] = None

    @property
    def false_reject_limit(self) -> Optional[float]:
        """The rate of false rejects up to which a line may drift: twice the target, 0 to 1.

        If unchanged images are already rejected more often than the target, it is their rate and the target.
        """
        rate, target = self.unchanged.false_reject_rate, self.false_rejects
        if rate is None:
            return None
        if target is None:
            return max(2.0 * rate, _LEAST_LIMIT)
        return max(2.0 * target, rate + target)


@dataclasses.dataclass(frozen=True)
class StressPoint:
    """One severity of one change.

    Attributes:
        severity: 1 to 5.
        amount: the amount in the unit of the change.
        engine: what the engine does.
        reference: what the reference does; None without one.
    """

    severity: int
    amount: float
    engine: Performance
    reference: Optional[Performance]


@dataclasses.dataclass(frozen=True)
class StressCurve:
    """All severities of one change.

    Attributes:
        change: its name, such as `less-light`.
        title: its name in tables.
        unit: unit of the amounts.
        unchanged: the amount at which images stay as they are.
        points: its severities, ascending.
        largest_by_false_rejects: the amount at which the false rejects reach their limit; None if no severity
            reaches it. Amounts between severities are interpolated.
        largest_by_auroc: the amount at which the image AUROC has fallen by 0.02.
    """

    change: str
    title: str
    unit: str
    unchanged: float
    points: Tuple[StressPoint, ...]
    largest_by_false_rejects: Optional[float]
    largest_by_auroc: Optional[float]

    def check(self) -> None:
        """Raise a ValueError if a number is impossible."""
        numbers = [self.unchanged, self.largest_by_false_rejects, self.largest_by_auroc]
        numbers += [point.amount for point in self.points]
        if not self.points or not all(math.isfinite(one) for one in numbers if one is not None):
            raise ValueError("holds a change without severities, or with an amount that is not finite")
        for point in self.points:
            for found in (point.engine, point.reference):
                if found is not None:
                    found.check()


class ExcessLoss(NamedTuple):
    """The image AUROC that the engine loses more than the reference.

    Attributes:
        loss: the difference of the losses; negative if the reference loses more.
        curve: the change.
        point: its severity.
    """

    loss: float
    curve: StressCurve
    point: StressPoint


@record(
    "adq-edge/stress", version=1, error=ResultError, fix="Measure again: adq-edge stress ENGINE --data DIR"
)
@dataclasses.dataclass(frozen=True)
class StressResult(Record):
    """What changes of the line do to an engine, beside a reference.

    Attributes:
        engine: the engine.
        reference: the engine that it is compared with, typically FP32; None without one.
        data: the dataset folder.
        categories: the categories.
        good: number of good images.
        defective: number of defective images.
        curves: each change.
        environment: the machine that ran the engines.
    """

    engine: StressedEngine
    reference: Optional[StressedEngine]
    data: str
    categories: Tuple[str, ...]
    good: int
    defective: int
    curves: Tuple[StressCurve, ...]
    environment: Environment

    def check(self) -> None:
        """Raise a ValueError if a number is impossible."""
        for side in (self.engine, self.reference):
            if side is not None:
                side.unchanged.check()
        for curve in self.curves:
            curve.check()

    @property
    def has_same_scores(self) -> bool:
        """True if engine and reference are both judged by products, or both by their own scores."""
        return self.reference is None or self.reference.has_products == self.engine.has_products

    def excess_losses(self, of_engine: bool = False) -> List[ExcessLoss]:
        """Return how much more AUROC the engine loses than the reference, at each severity.

        Args:
            of_engine: True for the AUROC of the engines' own scores, False for that of the deciding scores.
        """
        if self.reference is None:
            return []
        found = []
        for curve in self.curves:
            for point in curve.points:
                own = lost_auroc(self.engine.unchanged, point.engine, of_engine)
                other = lost_auroc(self.reference.unchanged, point.reference, of_engine)
                if own is not None and other is not None:
                    found.append(ExcessLoss(own - other, curve, point))
        return found


def lost_auroc(
    unchanged: Performance, changed: Optional[Performance], of_engine: bool = False
) -> Optional[float]:
    """Return the AUROC that a change costs; None if it is not known. Arguments as of `excess_losses`."""
    name = "engine_auroc" if of_engine else "image_auroc"
    before, after = getattr(unchanged, name), None if changed is None else getattr(changed, name)
    return None if before is None or after is None else float(before - after)


def find_crossing(
    amounts: Sequence[float], losses: Sequence[Optional[float]], limit: float
) -> Optional[float]:
    """Return the amount at which a loss first exceeds a limit, interpolated linearly; None if it never does.

    Args:
        amounts: the amounts, the unchanged one first.
        losses: the loss at each of them; None where it is not known.
        limit: the largest loss.
    """
    known = [(amount, loss) for amount, loss in zip(amounts, losses) if loss is not None]
    for (before, low), (after, high) in zip(known, known[1:]):
        if high > limit >= low:
            return before + (after - before) * (limit - low) / (high - low)
    return None
