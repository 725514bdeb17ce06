"""The points of a search for fast models, and which of them are worth more training."""

from __future__ import annotations

import dataclasses
from typing import List, Mapping, Sequence, Tuple, TypeVar

WORST = 0.1
"""Points whose AUROC is this much below the best one are left out, however fast they are."""


@dataclasses.dataclass(frozen=True)
class Point:
    """One model of a search.

    Attributes:
        image_size: height and width of the input in pixels.
        shared: the deepest layer that student and teacher share.
        width: channels inside the student's own layers, relative to the teacher's.
        layers: the compared layers, separated by commas.
    """

    image_size: int
    shared: str
    width: str
    layers: str

    @property
    def name(self) -> str:
        """Name of its files."""
        digits = "".join(letter for letter in self.layers if letter.isdigit())
        percent = round(100 * float(self.width))
        return f"paste-{self.image_size}-shared{self.shared[-1]}-width{percent}-layers{digits}"


@dataclasses.dataclass(frozen=True)
class ScoredPoint:
    """A point after a round of training.

    Attributes:
        point: the point.
        multiplications: multiplications for one image.
        auroc: image AUROC of the float model, the mean over categories, 0 to 1.
        by_category: image AUROC by category, 0 to 1.
        epochs: epochs of training.
    """

    point: Point
    multiplications: int
    auroc: float
    by_category: Mapping[str, float]
    epochs: int

    @property
    def cost_and_quality(self) -> Tuple[float, float]:
        """Multiplications and AUROC."""
        return self.multiplications, self.auroc


Item = TypeVar("Item")


def find_front(items: Sequence[Item], figures: Sequence[Tuple[float, float]]) -> List[Item]:
    """Return the items of the Pareto front, by ascending cost: no other is as cheap and as good.

    Args:
        items: the items.
        figures: cost (lower is better) and quality (higher is better) of each.
    """
    order = sorted(range(len(items)), key=lambda index: (figures[index][0], -figures[index][1]))
    front: List[Item] = []
    best = float("-inf")
    for index in order:
        if figures[index][1] > best:
            front.append(items[index])
            best = figures[index][1]
    return front


def choose_promising(scored: Sequence[ScoredPoint], most: int) -> List[ScoredPoint]:
    """Return at most `most` points of the front, by ascending multiplications.

    Points that are `WORST` below the best AUROC are left out. Of more points, those remain that gain most
    over the next cheaper one; the best one always remains.
    """
    best = max(one.auroc for one in scored)
    good = [one for one in scored if one.auroc > best - WORST]
    front = find_front(good, [one.cost_and_quality for one in good])
    while len(front) > most:
        gains = [after.auroc - before.auroc for before, after in zip(front, front[1:-1])]
        del front[gains.index(min(gains)) + 1 if gains else 0]
    return front
