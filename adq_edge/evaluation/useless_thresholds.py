"""Finds thresholds that reject most good images of a category: good parts would be scrapped."""

from __future__ import annotations

import collections
import shlex
from typing import List

from adq_edge.datasets.dataset import GOOD
from adq_edge.evaluation.decision_quality import ProductQuality
from adq_edge.evaluation.evaluate import Evaluation

MANY = 0.5
"""Share of rejected good images above which a threshold is useless."""


def find_useless_thresholds(evaluation: Evaluation) -> List[str]:
    """Return a warning for each category whose good images are mostly rejected at the threshold in force."""
    if evaluation.decisions is not None:
        return [_describe_product(one) for one in evaluation.decisions.products if _is_useless(one)]
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


def fit_command(evaluation: Evaluation) -> str:
    """Return the command that learns the products of an engine."""
    return " ".join(["adq-edge fit", *map(shlex.quote, (evaluation.engine.name, "--data", evaluation.data))])


def _is_useless(product: ProductQuality) -> bool:
    rate = product.errors.false_rejects.rate
    return product.product is not None and rate is not None and rate > MANY


def _describe_product(product: ProductQuality) -> str:
    rejects = product.errors.false_rejects
    return (
        f"WARNING: {_count(rejects.count, rejects.total)} good images of {product.name} are rejected at its "
        "threshold. Do not use it: fit the product again with good images like these"
    )


def _count(number: int, total: int) -> str:
    return f"all {total}" if number == total else f"{number} of {total}"
