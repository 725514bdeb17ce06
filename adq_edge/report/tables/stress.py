"""The tables of `stress`: each severity of each change, and how far a line may drift."""

from __future__ import annotations

from typing import Iterator, List, Optional, Sequence, Tuple

from adq_edge.decision.conformal import percent
from adq_edge.evaluation.stress_result import (
    LARGEST_AUROC_LOSS,
    Performance,
    StressCurve,
    StressedEngine,
    StressResult,
)
from adq_edge.metrics.intervals import CountedRate
from adq_edge.report.phrasing import precision_name
from adq_edge.report.table import Column, Table, Value, text
from adq_edge.report.tables.quality import file_name


def severities_table(result: StressResult) -> Table:
    """Return what the engine does at each severity of each change, one severity a row."""
    rows: List[Tuple[Value, ...]] = [("unchanged", *_unchanged(result))]
    rules = [0]
    for curve in result.curves:
        for point in curve.points:
            rows.append((_describe(curve, point.amount), *_figures(point.engine, point.reference)))
        rules.append(len(rows) - 1)
    return Table(
        f"{result.engine.engine.name} on {result.data}, changed",
        (text("change"), *_columns(result)),
        tuple(rows),
        tuple(_notes(result)),
        tuple(rules[:-1]),
    )


def limits_table(result: StressResult) -> Table:
    """Return how far each change may go, one change a row."""
    reference = None if result.reference is None else result.reference.unchanged.image_auroc
    columns = (
        text("change"),
        text("up to, by false rejects"),
        text("up to, by AUROC"),
        Column("AUROC at the largest", spec=".4f"),
        *([] if reference is None else [Column(f"{_reference_name(result)} there", spec=".4f")]),
        Column("not recognized there", "%", ".1f"),
    )
    rows = []
    for curve in result.curves:
        last = curve.points[-1]
        other = None if last.reference is None else last.reference.image_auroc
        limits = (curve.largest_by_false_rejects, curve.largest_by_auroc)
        limited = (result.engine.false_reject_limit, result.engine.unchanged.image_auroc)
        shown = (None if of is None else _limit(curve, limit) for limit, of in zip(limits, limited))
        areas = [last.engine.image_auroc, *([] if reference is None else [other])]
        rows.append((curve.title, *shown, *areas, _percent(last.engine.not_recognized)))
    title = f"how far the line may drift: {file_name(result.engine.engine.name)}"
    return Table(title, columns, tuple(rows), tuple(describe_limits(result)))


def stress_table(results: Sequence[StressResult]) -> Table:
    """Return each severity of each change of several engines."""
    columns = (
        *(text("engine"), text("change"), Column("severity"), Column("amount", spec="g"), text("unit")),
        *_FIGURES,
        *(Column(f"{column.name}, reference", column.unit, column.spec) for column in _FIGURES),
    )
    rows: List[Tuple[Value, ...]] = []
    for result in results:
        name = file_name(result.engine.engine.name)
        rows.append((name, "unchanged", 0, None, None, *_unchanged_both(result)))
        for curve in result.curves:
            for point in curve.points:
                figures = (*_all_figures(point.engine), *_all_figures(point.reference))
                rows.append((name, curve.title, point.severity, point.amount, curve.unit, *figures))
    notes = dict.fromkeys(note for result in results for note in _notes(result))
    return Table("Changes of the line", columns, tuple(rows), tuple(notes), key="stress")


def describe_limits(result: StressResult) -> Iterator[str]:
    """Yield how far the line may drift, in sentences."""
    limit, rate = result.engine.false_reject_limit, result.engine.unchanged.false_reject_rate
    if limit is not None and rate is not None:
        parts = ", ".join(_phrase(curve, curve.largest_by_false_rejects) for curve in result.curves)
        reason = _reason(result.engine, rate)
        yield f"False rejects stay at {percent(limit)} or less ({reason}) up to: {parts}."
    if result.engine.unchanged.image_auroc is not None:
        parts = ", ".join(_phrase(curve, curve.largest_by_auroc) for curve in result.curves)
        yield f"The image AUROC falls by less than {LARGEST_AUROC_LOSS:g} up to: {parts}."
    losses = result.excess_losses(of_engine=not result.has_same_scores)
    if losses:
        worst, name = max(losses, key=lambda one: one.loss), _reference_name(result)
        area = "AUROC" if result.has_same_scores else "AUROC of the engines' own scores"
        where = _describe(worst.curve, worst.point.amount)
        largest = f"at most {worst.loss:.4f} of {area} more than {name} ({where})"
        yield f"The engine loses {largest if worst.loss > 0.0 else f'no more {area} than {name}'}."


def _reason(engine: StressedEngine, rate: float) -> str:
    """Return where the limit of the false rejects comes from."""
    if engine.false_rejects is None:
        return f"unchanged images: {percent(rate)}"
    if engine.false_reject_limit == 2.0 * engine.false_rejects:
        return f"twice the target of {percent(engine.false_rejects)}"
    return f"unchanged images: {percent(rate)}, target: {percent(engine.false_rejects)}"


def _phrase(curve: StressCurve, limit: Optional[float]) -> str:
    return f"{curve.title} {_limit(curve, limit)}"


def _limit(curve: StressCurve, limit: Optional[float]) -> str:
    """Return the amount that a change may have, or that it is beyond the largest that was tested."""
    if limit is None:
        largest = curve.points[-1].amount
        return f"{curve.unit} below {largest:g}" if _falls(curve) else f"over {largest:g} {curve.unit}"
    return f"{curve.unit} {limit:.0f}" if _falls(curve) else f"{limit:.2g} {curve.unit}"


def _describe(curve: StressCurve, amount: float) -> str:
    """Return a change with its amount, such as `less light, 10 %`."""
    return f"{curve.title}, " + (f"{curve.unit} {amount:g}" if _falls(curve) else f"{amount:g} {curve.unit}")


def _falls(curve: StressCurve) -> bool:
    """Return True if a smaller amount is a larger change, as with the quality of JPEG."""
    return curve.points[-1].amount < curve.unchanged


_FIGURES = (
    Column("AUROC", spec=".4f"),
    Column("false rejects", "%", ".1f"),
    Column("missed", "%", ".1f"),
    Column("not recognized", "%", ".1f"),
)


def _columns(result: StressResult) -> Tuple[Column, ...]:
    """Return the columns of the terminal: those of the engine beside those of the reference."""
    columns: List[Column] = []
    for column in _FIGURES[:-1]:
        columns.append(column)
        if result.reference is not None:
            columns.append(Column(_reference_name(result), column.unit, column.spec))
    return tuple(columns)


def _figures(engine: Performance, reference: Optional[Performance]) -> Tuple[Value, ...]:
    own = _all_figures(engine)[:-1]
    if reference is None:
        return own
    return tuple(value for pair in zip(own, _all_figures(reference)) for value in pair)


def _unchanged(result: StressResult) -> Tuple[Value, ...]:
    return _figures(result.engine.unchanged, None if result.reference is None else result.reference.unchanged)


def _unchanged_both(result: StressResult) -> Tuple[Value, ...]:
    reference = None if result.reference is None else result.reference.unchanged
    return (*_all_figures(result.engine.unchanged), *_all_figures(reference))


def _all_figures(found: Optional[Performance]) -> Tuple[Value, ...]:
    if found is None:
        return (None,) * len(_FIGURES)
    rates = (found.false_rejects, found.missed_defects, found.not_recognized)
    return (found.image_auroc, *map(_percent, rates))


def _percent(rate: Optional[CountedRate]) -> Optional[float]:
    return None if rate is None or rate.rate is None else 100.0 * rate.rate


def _reference_name(result: StressResult) -> str:
    return "the reference" if result.reference is None else precision_name(result.reference.precision)


def _notes(result: StressResult) -> Iterator[str]:
    """Yield what a reader of the figures must know."""
    of_scores = "products' scores" if result.engine.has_products else "engine's own scores"
    images = f"{result.good} good and {result.defective} defective images"
    yield f"{images}. AUROC: of the {of_scores}, mean of the categories."
    if result.engine.has_products:
        yield "Each image is judged as its own product, at the thresholds in force."
    elif result.engine.note is not None:
        yield f"The products are not used: {result.engine.note}"
    else:
        yield "Without products the engine's own threshold decides, if there is one. Learn them: adq-edge fit"
    if not result.has_same_scores:
        own = "has no products: its figures are those of its own scores and its threshold"
        how = own if result.engine.has_products else "is judged by its products, the engine is not"
        yield f"{_reference_name(result)} {how}."
    unjudged = max(point.engine.cannot_judge for curve in result.curves for point in curve.points)
    if unjudged:
        of_images = f"At one severity, {unjudged} images cannot be judged"
        yield f"{of_images}. They count as rejected, and the AUROC leaves them out."
    yield "A pixel (px) is one of the engine's input, a level one of 256 gray levels."
