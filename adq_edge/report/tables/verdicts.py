"""Tables that fit a phone: wrong verdicts of each engine and product, and the thresholds."""

from __future__ import annotations

from typing import List, Optional, Sequence, Tuple

from adq_edge.core.options import ThresholdRule
from adq_edge.evaluation.decision_quality import DecisionQuality, ProductQuality
from adq_edge.evaluation.evaluate import Evaluation
from adq_edge.metrics.intervals import CountedRate
from adq_edge.metrics.operating_point import OperatingPoint
from adq_edge.report.labels import distinguish, engine_details
from adq_edge.report.table import Table, Value, text

_RULES = {ThresholdRule.F1: "highest F1", ThresholdRule.COST: "lowest cost"}
_PERCENT = "\N{NO-BREAK SPACE}%"
_INTERVALS = "In brackets: 95 % interval of the rate. An image that cannot be judged counts as rejected."


def verdict_tables(evaluations: Sequence[Evaluation]) -> List[Table]:
    """Return the wrong verdicts of each engine over all its products, then a table of products per engine."""
    judged = [(one, one.decisions) for one in evaluations if one.decisions is not None]
    details = [
        engine_details(one.engine.name, one.precision, one.runtime, data=one.data) for one, _ in judged
    ]
    names = distinguish(details)
    engines = [(name, decisions) for name, (_, decisions) in zip(names, judged)]
    return [*_totals(engines), *(_of_products(name, decisions) for name, decisions in engines)]


def _totals(engines: Sequence[Tuple[str, DecisionQuality]]) -> List[Table]:
    """Return the table of all products together; none for a single engine with one product."""
    if len(engines) < 2 and all(len(decisions.products) < 2 for _, decisions in engines):
        return []
    rows = tuple(
        (name, *_errors(decisions.errors), str(len(decisions.products))) for name, decisions in engines
    )
    columns = (text("engine"), text("false rejects"), text("missed defects"), text("products"))
    return [Table("Wrong verdicts over all products", columns, rows, (_INTERVALS,), key="verdicts")]


def _of_products(name: str, decisions: DecisionQuality) -> Table:
    rows = tuple((one.name, *_errors(one.errors), _threshold(one)) for one in decisions.products)
    columns = (text("product"), text("false rejects"), text("missed defects"), text("threshold"))
    about = "The threshold is in units of the product's score: 0 is the median of its good images."
    notes = (_INTERVALS, about, *_origins(decisions), *decisions.notes)
    return Table(f"Verdicts of {name}", columns, rows, notes, key="verdicts")


def _errors(errors: OperatingPoint) -> Tuple[Value, Value]:
    return _counted(errors.false_rejects), _counted(errors.missed_defects)


def _counted(rate: CountedRate) -> Optional[str]:
    if not rate.total:
        return None
    return f"{rate.count} of {rate.total} ({100 * rate.low:.1f} to {100 * rate.high:.1f}{_PERCENT})"


def _threshold(product: ProductQuality) -> Optional[str]:
    """Return a threshold, and in a few words how it was chosen."""
    if product.threshold is None:
        return None
    rate = "rate" if product.target is None else f"{100 * product.target:.3g}{_PERCENT}"
    rule = _RULES.get(product.rule, f"for {rate} false rejects")
    seen = ", these images" if product.chosen_on_test_images else ""
    return f"{product.threshold:.4g} ({rule}{seen})"


def _origins(decisions: DecisionQuality) -> List[str]:
    """Return what chose the thresholds, each choice once."""
    found = dict.fromkeys(one.origin for one in decisions.products if one.threshold is not None)
    return [f"threshold: {origin}" for origin in found]
