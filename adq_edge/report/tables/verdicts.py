"""Tables that fit a phone: wrong verdicts of each engine and product, and the thresholds."""

from __future__ import annotations

from typing import List, NamedTuple, Optional, Sequence, Tuple

from adq_edge.core.options import ThresholdRule
from adq_edge.evaluation.decision_quality import DecisionQuality, ProductQuality
from adq_edge.evaluation.evaluate import Evaluation
from adq_edge.metrics.intervals import CountedRate
from adq_edge.metrics.operating_point import OperatingPoint
from adq_edge.report.labels import distinguish, engine_details, shorten_labels
from adq_edge.report.table import Table, Value, text

_RULES = {ThresholdRule.F1: "highest F1", ThresholdRule.COST: "lowest cost"}
_PERCENT = "\N{NO-BREAK SPACE}%"
_MOST_ENGINES = 2
"""Engines that have a table of products each."""
_INTERVALS = "In brackets: 95 % interval of the rate. An image that cannot be judged counts as rejected."


class _Judged(NamedTuple):
    """The name of an engine, and the quality of its decisions."""

    name: str
    decisions: DecisionQuality


def verdict_tables(evaluations: Sequence[Evaluation]) -> List[Table]:
    """Return the wrong verdicts of each engine over all its products, and those of each product.

    A single engine with one product has the second table only, and many engines share one table.
    """
    judged = [(one, one.decisions) for one in evaluations if one.decisions is not None]
    details = [
        engine_details(one.engine.name, one.precision, one.runtime, data=one.data) for one, _ in judged
    ]
    names = distinguish(details)
    engines = [_Judged(name, decisions) for name, (_, decisions) in zip(names, judged)]
    short = [_Judged(name, one.decisions) for name, one in zip(shorten_labels(names), engines)]
    if len(engines) > _MOST_ENGINES:
        return [_totals(short), _of_products("Verdicts of each product", short)]
    tables = [_of_products(f"Verdicts of {one.name}", [one]) for one in engines]
    is_single = len(engines) < 2 and all(len(one.decisions.products) < 2 for one in engines)
    return tables if is_single else [_totals(short), *tables]


def _totals(engines: Sequence[_Judged]) -> Table:
    """Return the verdicts over all products together."""
    rows = tuple(
        (name, *_errors(decisions.errors), str(len(decisions.products))) for name, decisions in engines
    )
    columns = (text("engine"), text("false rejects"), text("missed defects"), text("products"))
    return Table("Wrong verdicts over all products", columns, rows, (_INTERVALS,), key="verdicts")


def _of_products(title: str, engines: Sequence[_Judged]) -> Table:
    """Return the verdicts of each product; with several engines, their names precede the products."""
    pairs = [(name, one) for name, decisions in engines for one in decisions.products]
    names = [f"{name}: {one.name}" if len(engines) > 1 else one.name for name, one in pairs]
    rows = tuple((name, *_errors(one.errors), _threshold(one)) for name, (_, one) in zip(names, pairs))
    first = "engine and product" if len(engines) > 1 else "product"
    columns = (text(first), text("false rejects"), text("missed defects"), text("threshold"))
    about = "The threshold is in units of the product's score: 0 is the median of its good images."
    origins = dict.fromkeys(f"threshold: {one.origin}" for _, one in pairs if one.threshold is not None)
    notes = dict.fromkeys(note for _, decisions in engines for note in decisions.notes)
    return Table(title, columns, rows, (_INTERVALS, about, *origins, *notes), key="verdicts")


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
