"""Finds thresholds that reject most good images or pass every defective one."""

from __future__ import annotations

import collections
import shlex
from typing import Iterator, List

from adq_edge.core.options import ThresholdRule
from adq_edge.datasets.dataset import GOOD
from adq_edge.evaluation.decision_quality import ProductQuality
from adq_edge.evaluation.evaluate import Evaluation

MANY = 0.5
"""Share of rejected good images above which a threshold is useless."""


def find_useless_thresholds(evaluation: Evaluation) -> List[str]:
    """Return a warning for each category or product whose threshold in force is useless."""
    if evaluation.decisions is not None:
        return [line for one in evaluation.decisions.products for line in _describe_product(one)]
    if evaluation.threshold is None or evaluation.not_stored is not None:
        return []
    good = [score for score in evaluation.scores if score.defect == GOOD]
    totals = collections.Counter(score.category for score in good)
    rejected = collections.Counter(one.category for one in good if one.score >= evaluation.threshold)
    what, fix = f"the threshold {evaluation.threshold:.4g} calls", fit_command(evaluation)
    return [
        f"WARNING: {what} {_count(rejected[name], total)} good images of {name} anomalous. Do not use it for "
        f"{name}: learn a threshold for each product from good images: {fix}"
        for name, total in totals.items()
        if rejected[name] > MANY * total
    ]


def is_fit_needed(evaluation: Evaluation) -> bool:
    """Return True if a threshold rejects most good images, and good images can give a better one."""
    if evaluation.decisions is None:
        return bool(find_useless_thresholds(evaluation))
    products = evaluation.decisions.products
    return any(_rejects_good(one) and one.rule is ThresholdRule.FALSE_REJECTS for one in products)


def fit_command(evaluation: Evaluation) -> str:
    """Return the command that learns the products of an engine."""
    return " ".join(["adq-edge fit", *map(shlex.quote, (evaluation.engine.name, "--data", evaluation.data))])


def _rejects_good(product: ProductQuality) -> bool:
    rate = product.errors.false_rejects.rate
    return product.product is not None and rate is not None and rate > MANY


def _describe_product(product: ProductQuality) -> Iterator[str]:
    rejects, missed = product.errors.false_rejects, product.errors.missed_defects
    if _rejects_good(product):
        remedy = "Fit the product again with good images like these"
        if product.rule is not ThresholdRule.FALSE_REJECTS:
            remedy = "Its scores separate good from defective images too little for this choice"
        count = _count(rejects.count, rejects.total)
        yield f"WARNING: {count} good images of {product.name} are rejected at its threshold. {remedy}"
    if missed.total and missed.count == missed.total:
        yield (
            f"WARNING: {_count(missed.count, missed.total)} defective images of {product.name} pass at its "
            "threshold. Allow more false rejects, or leave out good images that look defective: fit --clean"
        )


def _count(number: int, total: int) -> str:
    return f"all {total}" if number == total else f"{number} of {total}"
