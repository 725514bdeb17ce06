"""Finds thresholds that reject most good images or pass every defective one."""

from __future__ import annotations

import collections
from typing import Iterator, List, Sequence, Tuple

from adq_edge.core.options import ThresholdRule
from adq_edge.core.text import command_line
from adq_edge.datasets.dataset import GOOD
from adq_edge.datasets.layouts.registry import chosen_layout, layout_arguments
from adq_edge.datasets.layouts.test_only import TEST_ONLY
from adq_edge.evaluation.decision_quality import ProductQuality
from adq_edge.evaluation.evaluate import Evaluation
from adq_edge.metrics.intervals import CountedRate

MANY = 0.5
"""Share of rejected good images above which a threshold is useless."""


def find_useless_thresholds(evaluation: Evaluation) -> List[str]:
    """Return a warning for each problem of thresholds in force, with its categories or products."""
    if evaluation.decisions is not None:
        return [*_describe_products(evaluation.decisions.products)]
    if evaluation.threshold is None or evaluation.not_stored is not None:
        return []
    good = [score for score in evaluation.scores if score.defect == GOOD]
    totals = collections.Counter(score.category for score in good)
    rejected = collections.Counter(one.category for one in good if one.score >= evaluation.threshold)
    useless = [
        _describe_count(name, rejected[name], total)
        for name, total in totals.items()
        if rejected[name] > MANY * total
    ]
    if not useless:
        return []
    what = f"the threshold {evaluation.threshold:.4g} calls good images anomalous: {', '.join(useless)}"
    fix = f"Do not use it: learn a threshold for each product from good images: {fit_command(evaluation)}"
    return [f"WARNING: {what}. {fix}"]


def is_fit_needed(evaluation: Evaluation) -> bool:
    """Return True if a threshold rejects most good images, and good images can give a better one."""
    if evaluation.decisions is None:
        return bool(find_useless_thresholds(evaluation))
    products = evaluation.decisions.products
    return any(_rejects_good(one) and one.rule is ThresholdRule.FALSE_REJECTS for one in products)


def fit_command(evaluation: Evaluation) -> str:
    """Return the command that learns the products of an engine."""
    return command_line(*fit_arguments(evaluation))


def fit_arguments(evaluation: Evaluation) -> Tuple[str, ...]:
    """Return the arguments of `fit_command`; the layout of test images has none to learn from."""
    if chosen_layout() is TEST_ONLY:
        return ("fit", evaluation.engine.name, "--data", "DIR")
    return ("fit", evaluation.engine.name, "--data", evaluation.data, *layout_arguments())


def _rejects_good(product: ProductQuality) -> bool:
    rate = product.errors.false_rejects.rate
    return product.product is not None and rate is not None and rate > MANY


def _describe_products(products: Sequence[ProductQuality]) -> Iterator[str]:
    """Yield a warning for each problem, with the names of its products."""
    rejecting = [one for one in products if _rejects_good(one)]
    chosen = [one for one in rejecting if one.rule is not ThresholdRule.FALSE_REJECTS]
    learned = [one for one in rejecting if one.rule is ThresholdRule.FALSE_REJECTS]
    fixes = (
        (learned, "Fit these products again with good images like these"),
        (chosen, "The scores separate good from defective images too little for this choice"),
    )
    for group, fix in fixes:
        if group:
            names = _describe_counts([(one.name, one.errors.false_rejects) for one in group])
            yield f"WARNING: thresholds reject good images: {names}. {fix}"
    missed = [(one.name, one.errors.missed_defects) for one in products]
    passing = [(name, rate) for name, rate in missed if rate.total and rate.count == rate.total]
    if passing:
        yield (
            f"WARNING: defective images pass the thresholds: {_describe_counts(passing)}. Allow more false "
            "rejects, or leave out good images that look defective: fit --clean"
        )


def _describe_counts(rates: Sequence[Tuple[str, CountedRate]]) -> str:
    return ", ".join(_describe_count(name, rate.count, rate.total) for name, rate in rates)


def _describe_count(name: str, number: int, total: int) -> str:
    return f"{name} ({f'all {total}' if number == total else f'{number} of {total}'})"
