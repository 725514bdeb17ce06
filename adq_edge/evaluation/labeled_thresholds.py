"""Chooses a threshold for each product from labeled images, and stores it with the products."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import List, Optional, Sequence, Tuple

import numpy as np

from adq_edge.artifacts.products import LabeledThreshold, Product, Products, products_path, read_products
from adq_edge.core.errors import AdqError, EngineError
from adq_edge.core.files import Transaction
from adq_edge.core.options import ThresholdRule
from adq_edge.core.text import number_of
from adq_edge.evaluation.decisions import JudgedImage
from adq_edge.metrics.cost import least_cost
from adq_edge.metrics.quality import f1_max_threshold

NO_LABELS = "none"
"""The choice that removes thresholds from labeled images."""
CHOICES = (ThresholdRule.F1.value, ThresholdRule.COST.value, NO_LABELS)


@dataclasses.dataclass(frozen=True)
class ThresholdChoice:
    """How the threshold of each product is chosen.

    Attributes:
        rule: the rule; `FALSE_REJECTS` removes thresholds from labeled images.
        cost_escape: cost of a missed defect; None with another rule than `COST`.
        cost_reject: cost of a rejected good part; None with another rule than `COST`.
    """

    rule: ThresholdRule
    cost_escape: Optional[float] = None
    cost_reject: Optional[float] = None


def check_choice(
    name: Optional[str], cost_escape: Optional[float], cost_reject: Optional[float]
) -> Optional[ThresholdChoice]:
    """Return the choice that options state; None to keep the thresholds in force.

    Raises:
        AdqError: no such choice, or impossible costs.
    """
    if name is not None and name not in CHOICES:
        known = ", ".join(CHOICES)
        raise AdqError(f"{name!r} chooses no threshold", where="--choose-threshold", fix=f"Use {known}")
    if name != ThresholdRule.COST.value:
        if cost_escape is not None or cost_reject is not None:
            fix = "Add --choose-threshold cost, or omit the costs"
            raise AdqError("--cost-escape or --cost-reject without the choice by cost", fix=fix)
        if name is None:
            return None
        return ThresholdChoice(ThresholdRule.FALSE_REJECTS if name == NO_LABELS else ThresholdRule(name))
    if cost_escape is None:
        fix = "Give the cost of a missed defect in units of a rejected good part, such as --cost-escape 100"
        raise AdqError("no costs", where="--choose-threshold cost", fix=fix)
    reject = 1.0 if cost_reject is None else cost_reject
    for option, cost in (("--cost-escape", cost_escape), ("--cost-reject", reject)):
        if not (math.isfinite(cost) and cost > 0.0):
            raise AdqError(f"a cost of {cost:g}", where=option, fix="Give a number above 0")
    return ThresholdChoice(ThresholdRule.COST, float(cost_escape), float(reject))


def choose_thresholds(
    products: Products, judged: Sequence[JudgedImage], choice: ThresholdChoice, data: str
) -> Tuple[Products, List[str]]:
    """Choose the threshold of each product from the images that it judged.

    A product keeps its threshold without good or without defective images, or if the best choice is to reject
    every image.

    Args:
        products: the products.
        judged: labeled images.
        choice: the rule.
        data: the dataset folder.

    Returns:
        The products with their thresholds, and what a reader must know, one sentence each.
    """
    if choice.rule is ThresholdRule.FALSE_REJECTS:
        return without_labels(products), []
    changed: List[Product] = []
    notes: List[str] = []
    for product in products.products:
        images = [one for one in judged if one.product == product.name and one.score is not None]
        scores = [one.score for one in images if one.score is not None]
        found = _best_threshold([one.is_defective for one in images], scores, choice)
        reason = _why_not(images, scores, found)
        if found is None or reason is not None:
            kept = "false-reject threshold" if product.threshold is None else "earlier threshold"
            notes.append(f"{product.name} keeps its {kept}: {reason}")
        else:
            threshold = _record(found, images, choice, data)
            changed.append(dataclasses.replace(product, threshold=threshold).sealed())
    return products.with_products(changed), notes


def without_labels(products: Products) -> Products:
    """Return the products without thresholds from labeled images."""
    labeled = [one for one in products.products if one.threshold is not None]
    return products.with_products(dataclasses.replace(one, threshold=None).sealed() for one in labeled)


def _best_threshold(
    labels: Sequence[bool], scores: Sequence[float], choice: ThresholdChoice
) -> Optional[float]:
    """Return the best threshold, which an image with a defect reaches; None without both labels."""
    flags, values = np.array(labels, bool), np.array(scores, np.float64)
    if choice.cost_escape is not None and choice.cost_reject is not None:
        point = least_cost(flags, values, choice.cost_escape, choice.cost_reject)
        return None if point is None else point.threshold
    best = f1_max_threshold(flags, values)
    return None if best is None else best[0]


def _why_not(
    images: Sequence[JudgedImage], scores: Sequence[float], threshold: Optional[float]
) -> Optional[str]:
    """Return why a threshold must not be stored; None if it may."""
    if threshold is None:
        defective = sum(one.is_defective for one in images)
        good = number_of(len(images) - defective, "good image")
        return f"{good} and {number_of(defective, 'defective image')}, the choice needs both"
    if threshold <= min(scores):
        return "the best choice on these images is to reject every one"
    return None


def _record(
    threshold: float, images: Sequence[JudgedImage], choice: ThresholdChoice, data: str
) -> LabeledThreshold:
    # the metrics reject scores that reach a threshold, an inspector those above it
    below = float(np.nextafter(np.float32(threshold), np.float32(-np.inf)))
    defective = sum(one.is_defective for one in images)
    return LabeledThreshold(
        score=below,
        rule=choice.rule.value,
        cost_escape=choice.cost_escape,
        cost_reject=choice.cost_reject,
        data=data,
        good=len(images) - defective,
        defective=defective,
    )


def store_products(files: Transaction, engine: Path, sha: str, before: Products, after: Products) -> None:
    """Write the thresholds that changed, in a transaction.

    Args:
        files: the transaction.
        engine: the engine file.
        sha: its hash.
        before: the products that judged the images.
        after: the same products with the thresholds to store.

    Raises:
        EngineError: a product was fitted again meanwhile.
    """
    current = read_products(engine, sha)
    old = {product.name: product for product in before.products}
    changed = [product for product in after.products if product != old[product.name]]
    if not changed:
        return
    found = {} if current is None else {product.name: product for product in current.products}
    if current is None or any(found.get(product.name) != old[product.name] for product in changed):
        raise _changed_error(engine)

    def require_unchanged() -> None:
        if read_products(engine, sha) != current:
            raise _changed_error(engine)

    files.check(require_unchanged)
    current.with_products(changed).write(products_path(engine))


def _changed_error(engine: Path) -> EngineError:
    return EngineError(
        "its products were fitted again during the evaluation, and nothing is stored",
        where=engine,
        fix="Evaluate again: adq-edge eval ENGINE",
    )
