"""The table of `fit`: the products of an engine."""

from __future__ import annotations

from pathlib import PurePath
from typing import Dict, List, Optional, Tuple

from adq_edge.artifacts.products import EvidenceKind, Product
from adq_edge.decision.conformal import Calibration
from adq_edge.decision.fit import Fit
from adq_edge.decision.similarity import find_similar
from adq_edge.report.table import Column, Table, Value, text

_MAPS = {EvidenceKind.RAW: "own", EvidenceKind.DEEP: "deep"}
_POSITIONS = {EvidenceKind.RAW_POSITION: "own", EvidenceKind.DEEP_POSITION: "deep"}
_WORDS = {"own": "the engine's map", "deep": "the map of its deepest layer"}
_COLUMNS = (
    text("product"),
    Column("images"),
    Column("left out"),
    text("map"),
    text("position"),
    Column("threshold", spec=".3g"),
    text("recognized"),
)
_LEGEND = (
    "map, position: what the score is made of. own: the engine's map; deep: the map of its deepest layer; "
    "position: relative to what is normal at each position",
    "threshold: higher scores are defective; 0 is the median of good images, 1 about a standard deviation",
)


def products_table(fit: Fit) -> Table:
    """Return the products of an engine: images, way to score, threshold and what it promises."""
    similar = find_similar(fit.products)
    rows = tuple(
        _row(product, fit.products.false_rejects, similar.get(product.name))
        for product in fit.products.products
    )
    rate = f"{100.0 * fit.products.false_rejects:.4g} %"
    title = f"Products of {PurePath(fit.engine).name} ({fit.products.runtime}), false-reject rate {rate}"
    return Table(title, _COLUMNS, rows, (*_promises(fit), *(_LEGEND if rows else ())))


def describe_way(product: Product) -> str:
    """Return the way that a product is scored, in words."""
    kinds = [one.kind for one in product.evidence]
    parts = [_WORDS[name] for kind, name in _MAPS.items() if kind in kinds]
    parts += [f"{_WORDS[name]} by position" for kind, name in _POSITIONS.items() if kind in kinds]
    return ", ".join(parts)


def describe_threshold(product: Product, false_rejects: float) -> str:
    """Return what the threshold of a product promises, in words."""
    labeled = product.threshold
    if labeled is None:
        return Calibration(product.scores).threshold_for(false_rejects).describe()
    images = f"{labeled.good} good and {labeled.defective} defective images of {labeled.data}"
    return f"threshold by {labeled.rule}, chosen with {images}"


def threshold_of(product: Product, false_rejects: float) -> float:
    """Return the threshold in effect of a product."""
    if product.threshold is not None:
        return product.threshold.score
    return Calibration(product.scores).threshold_for(false_rejects).score


def _row(product: Product, false_rejects: float, similar: Optional[str]) -> Tuple[Value, ...]:
    return (
        product.name,
        product.images,
        len(product.suspicious) or None,
        _names(product, _MAPS),
        _names(product, _POSITIONS),
        threshold_of(product, false_rejects),
        "well" if similar is None else f"like {similar}",
    )


def _names(product: Product, names: Dict[EvidenceKind, str]) -> Optional[str]:
    kinds = [one.kind for one in product.evidence]
    return ", ".join(name for kind, name in names.items() if kind in kinds) or None


def _promises(fit: Fit) -> Tuple[str, ...]:
    """Return what the thresholds promise, one sentence a line, with the names of the products."""
    names: Dict[str, List[str]] = {}
    for one in fit.products.products:
        names.setdefault(describe_threshold(one, fit.products.false_rejects), []).append(one.name)
    return tuple(f"{', '.join(products)}: {promise}" for promise, products in names.items())
