"""A result of `compare`, with invented figures."""

from __future__ import annotations

from typing import Optional, Sequence

from adq_edge.artifacts.bundle import FileReference
from adq_edge.artifacts.sidecar import Threshold
from adq_edge.evaluation.compare import ComparedEngine, Comparison
from adq_edge.metrics.agreement import (
    Auroc,
    CategoryAgreement,
    DecisionAgreement,
    Flips,
    MapAgreement,
    ProductAgreement,
    ScoreAgreement,
)
from factories import results as make

HASH = "0" * 64
CATEGORIES = ("magnetic_tile_of_the_second_line", "solar_cell_of_the_second_line")


def comparison(sheet: Optional[str] = None, names: Sequence[str] = ("a", "b")) -> Comparison:
    """Make the agreement of two engines, with `sheet` as the path of its sheet."""
    threshold = Threshold(0.4213, 0.95, 60, "/data")
    sides = [
        ComparedEngine(FileReference(f"engines/{name}.onnx", HASH), HASH, "int8", "ort", threshold, False)
        for name in names
    ]
    area, flips = Auroc(0.9871, 0.9858, -0.0013), Flips(12, 7)
    categories = tuple(CategoryAgreement(name, 30, 12, area, area) for name in CATEGORIES)
    scores, maps = ScoreAgreement(0.1234, 0.0123, 0.0123, 0.9987), MapAgreement(1.234, 0.0123, 30.2, 31.4)
    areas = (area, area)
    products = tuple(ProductAgreement(name, 30, Flips(6, 3), 2, 0.9931) for name in CATEGORIES)
    decisions = DecisionAgreement(products, ProductAgreement("all", 60, flips, 4, 0.9954))
    return Comparison(
        *sides, "/data", categories, *areas, scores, maps, flips, flips, (), sheet, (), make.PC, decisions
    )
