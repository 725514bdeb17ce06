"""The result file of a search for fast models, and its table."""

from __future__ import annotations

import dataclasses
from typing import List, Mapping, Optional, Sequence, Tuple

from adq_edge.core.errors import ResultError
from adq_edge.core.records import Record, record
from adq_edge.hardware.environment import Environment
from adq_edge.report.table import Column, Field, Table, tabulate, text
from adq_edge.study.fast_points import Point, ScoredPoint


@dataclasses.dataclass(frozen=True)
class FastEngine:
    """One INT8 engine of a search.

    Attributes:
        point: its model.
        multiplications: multiplications for one image.
        epochs: epochs of training.
        checkpoint: checkpoint of the model.
        bundle: folder of the exported model.
        engine: the engine file.
        engine_sha256: SHA-256 of the engine file.
        engine_mb: its size in MB (10^6 bytes).
        p50_ms: median latency at batch 1 in ms; only the engine call is timed.
        float_auroc: image AUROC of the float model, the mean over categories, 0 to 1.
        auroc: image AUROC of the engine, the mean over categories, 0 to 1.
        float_by_category: image AUROC of the float model by category, 0 to 1.
        by_category: image AUROC of the engine by category, 0 to 1.
        on_front: True if no other engine is as fast and as good.
        commands: the commands that make it without a search.
    """

    point: Point
    multiplications: int
    epochs: int
    checkpoint: str
    bundle: str
    engine: str
    engine_sha256: str
    engine_mb: float
    p50_ms: float
    float_auroc: float
    auroc: float
    float_by_category: Mapping[str, float]
    by_category: Mapping[str, float]
    on_front: bool
    commands: Tuple[str, ...]

    @property
    def largest_loss(self) -> float:
        """The largest drop of a category's AUROC from the float model to the engine."""
        return max(self.float_by_category[name] - value for name, value in self.by_category.items())


@record("adq-edge/find-fast", version=1, error=ResultError, fix="Search again: adq-edge train --find-fast")
@dataclasses.dataclass(frozen=True)
class FastSearch(Record):
    """A search for fast models.

    Attributes:
        created: time of creation, UTC, ISO 8601.
        data: dataset folder.
        categories: the categories that each model learned.
        test_images: number of labeled images.
        pasted: True if defects were pasted on good images, so that each AUROC is an estimate.
        seed: random seed.
        engines: the engines, by ascending latency.
        first_round: every point after the short trainings.
        second_round: the promising points, and those that were trained with them.
        caveat: why the latencies are not to be quoted; None if they may be quoted.
        cpu_minutes: CPU time of this run in minutes; a resumed run does not count earlier parts.
        environment: the machine.
    """

    created: str
    data: str
    categories: Tuple[str, ...]
    test_images: int
    pasted: bool
    seed: int
    engines: Tuple[FastEngine, ...]
    first_round: Tuple[ScoredPoint, ...]
    second_round: Tuple[ScoredPoint, ...]
    caveat: Optional[str]
    cpu_minutes: float
    environment: Environment

    @property
    def front(self) -> Tuple[FastEngine, ...]:
        """The engines of the Pareto front, by ascending latency."""
        return tuple(one for one in self.engines if one.on_front)

    def best_within(self, milliseconds: float) -> Optional[FastEngine]:
        """Return the engine with the highest AUROC whose p50 is at most this; None if all are slower."""
        fast = [one for one in self.engines if one.p50_ms <= milliseconds]
        return max(fast, key=lambda one: one.auroc, default=None)


def engines_table(search: FastSearch) -> Table:
    """Return the engines of a search, by ascending latency."""
    fields: Sequence[Field[FastEngine]] = (
        (Column("p50", "ms", ".2f"), lambda one: one.p50_ms),
        (Column("image AUROC", spec=".4f"), lambda one: one.auroc),
        (Column("FP32 AUROC", spec=".4f"), lambda one: one.float_auroc),
        (Column("largest loss", spec=".4f"), lambda one: one.largest_loss),
        (Column("input", "px"), lambda one: one.point.image_size),
        (text("shared"), lambda one: one.point.shared),
        (text("width"), lambda one: one.point.width),
        (text("layers"), lambda one: one.point.layers),
        (Column("GMAC", spec=".2f"), lambda one: one.multiplications / 1e9),
        (Column("file", "MB", ".1f"), lambda one: one.engine_mb),
        (text("front"), lambda one: "yes" if one.on_front else "no"),
    )
    return tabulate("INT8 engines by latency", fields, search.engines, _notes(search), key="find_fast")


def _notes(search: FastSearch) -> List[str]:
    notes = [
        "largest loss: of a category's AUROC, from FP32 to INT8. front: no other engine is as fast and as "
        "good. Options: train --arch paste --image-size, --shared, --width, --layers."
    ]
    if search.pasted:
        notes.append(
            "The dataset has no labeled test images: each AUROC is an estimate from defects that were pasted "
            "on held-out good images. Give images with defects to measure it."
        )
    return notes if search.caveat is None else [*notes, search.caveat]
