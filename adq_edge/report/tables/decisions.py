"""The tables of decisions: errors at the thresholds in force, where these come from, and recognition."""

from __future__ import annotations

from typing import Dict, Iterable, Iterator, List, Optional, Sequence, Tuple

from adq_edge.benchmark.records import Interval
from adq_edge.evaluation.decision_quality import (
    DecisionQuality,
    ProductQuality,
    RecognitionCount,
    RecognitionQuality,
)
from adq_edge.evaluation.evaluate import Evaluation
from adq_edge.evaluation.useless_thresholds import find_useless_thresholds
from adq_edge.metrics.intervals import CountedRate
from adq_edge.metrics.operating_point import OperatingPoint
from adq_edge.report.table import Column, Field, Kind, Table, Value, part, prose, tabulate, text
from adq_edge.report.tables.quality import explain_gaps, file_name

_ERRORS: Tuple[Field[ProductQuality], ...] = (
    (Column("good"), lambda item: item.errors.false_rejects.total),
    (Column("false rejects"), lambda item: item.errors.false_rejects.count),
    (Column("false rejects", "%", ".1f", Kind.INTERVAL), lambda item: _percent(item.errors.false_rejects)),
    (Column("defective"), lambda item: item.errors.missed_defects.total),
    (Column("missed"), lambda item: item.errors.missed_defects.count),
    (Column("missed", "%", ".1f", Kind.INTERVAL), lambda item: _percent(item.errors.missed_defects)),
)
_MEASURES: Tuple[Field[ProductQuality], ...] = (
    (Column("PG2", spec=".4f"), lambda item: item.presorted_good),
    (Column("PB2", spec=".4f"), lambda item: item.presorted_bad),
    (Column("AUPIMO", spec=".4f"), lambda item: item.aupimo),
    (Column("SegF1", spec=".4f"), lambda item: item.seg_f1),
)
_THRESHOLD: Field[ProductQuality] = (Column("threshold", spec=".4g"), lambda item: item.threshold)
_ORIGIN: Field[ProductQuality] = (prose("chosen by"), lambda item: item.origin)
_AREAS: Tuple[Field[ProductQuality], ...] = (
    (Column("image AUROC", spec=".4f"), lambda item: item.image_auroc),
    (Column("pixel AUROC", spec=".4f"), lambda item: item.pixel_auroc),
    (Column("AUPRO", spec=".4f"), lambda item: item.aupro),
)
_MEASURES_NOTE = (
    "PG2: share of good images cleared at 2 % missed defects. PB2: share of defective images found at 2 % "
    "false rejects. Both, AUPIMO and SegF1: 0 to 1, higher is better."
)


def decision_tables(evaluation: Evaluation) -> List[Table]:
    """Return the tables of one engine's decisions; none without products."""
    decisions = evaluation.decisions
    if decisions is None:
        return []
    return [
        _scores_table(evaluation, decisions),
        _errors_table(evaluation, decisions),
        _thresholds_table(decisions),
        _recognition_table([("", decisions.recognition)]),
    ]


def products_table(evaluations: Sequence[Evaluation]) -> Table:
    """Return the quality of each engine's decisions, one product a row."""
    items = [
        (evaluation, product)
        for evaluation in evaluations
        if evaluation.decisions is not None
        for product in evaluation.decisions.products
    ]
    name: Field[ProductQuality] = (text("product"), lambda product: product.name)
    of_product = (name, *_ERRORS, *_AREAS, *_MEASURES, _THRESHOLD, _ORIGIN)
    of_pair: List[Field[Tuple[Evaluation, ProductQuality]]] = part(lambda pair: pair[1], of_product)
    fields = [(text("engine"), lambda pair: file_name(pair[0].engine.name)), *of_pair]
    own = [evaluation.decisions for evaluation in evaluations if evaluation.decisions is not None]
    notes = dict.fromkeys(note for decisions in own for note in decisions.notes)
    about = "Scores, AUROC and AUPRO: relative to the good images of each product."
    return tabulate(
        "Decisions of each product", fields, items, (about, _MEASURES_NOTE, *notes), key="decisions"
    )


def recognition_table(evaluations: Sequence[Evaluation]) -> Table:
    """Return how well each engine recognizes products, one category a row."""
    return _recognition_table(
        [
            (file_name(evaluation.engine.name), evaluation.decisions.recognition)
            for evaluation in evaluations
            if evaluation.decisions is not None
        ]
    )


def _scores_table(evaluation: Evaluation, decisions: DecisionQuality) -> Table:
    """Return the areas under curves of the engine's own scores and of the products' scores."""
    columns = [
        Column(f"{name}, {whose}", spec=".4f")
        for name in ("image AUROC", "pixel AUROC", "AUPRO")
        for whose in ("engine", "product")
    ]
    products = {one.category: one for one in decisions.products if one.product == one.category}
    rows: List[Tuple[Value, ...]] = []
    for category in evaluation.categories:
        raw = (category.image_auroc, category.pixel_auroc, category.aupro)
        rows.append((category.name, *_in_turns(raw, _areas(products.get(category.name)))))
        others = [one for one in decisions.products if one.category == category.name != one.product]
        measured = [one for one in others if _areas(one) != (None, None, None)]
        rows += [(one.name, *_in_turns((None, None, None), _areas(one))) for one in measured]
    means = (evaluation.image_auroc, evaluation.pixel_auroc, evaluation.aupro)
    own = (decisions.image_auroc, decisions.pixel_auroc, decisions.aupro)
    notes = ("engine: its own score and map; product: relative to the product's good images",)
    return Table(
        f"{evaluation.engine.name} on {evaluation.data}",
        (text("category"), *columns),
        (*rows, ("mean", *_in_turns(means, own))),
        (*notes, *explain_gaps(evaluation.categories)),
        rules=(len(rows) - 1,),
    )


def _areas(product: Optional[ProductQuality]) -> Tuple[Value, Value, Value]:
    return (
        (None, None, None) if product is None else (product.image_auroc, product.pixel_auroc, product.aupro)
    )


def _in_turns(first: Iterable[Value], second: Iterable[Value]) -> Tuple[Value, ...]:
    return tuple(value for pair in zip(first, second) for value in pair)


def _errors_table(evaluation: Evaluation, decisions: DecisionQuality) -> Table:
    """Return the errors, with counts and totals in one column so that they fit a terminal."""
    columns = (
        text("product"),
        *(Column("false rejects"), Column("false rejects", "%", ".1f", Kind.INTERVAL)),
        *(Column("missed defects"), Column("missed defects", "%", ".1f", Kind.INTERVAL)),
    )
    pairs = [(one.name, one.errors) for one in decisions.products]
    rows = tuple((name, *_errors(errors)) for name, errors in (*pairs, ("all", decisions.errors)))
    rates = [
        f"{name} {100 * rate:.1f} %"
        for name, rate in (
            ("false rejects", decisions.false_reject_rate),
            ("missed defects", decisions.missed_defect_rate),
        )
        if rate is not None
    ]
    means = (f"mean over the products: {', '.join(rates)}",) if rates else ()
    notes = (*means, *find_useless_thresholds(evaluation), *decisions.notes)
    return Table("decisions at the thresholds in force", columns, rows, notes, (len(pairs) - 1,))


def _errors(errors: OperatingPoint) -> Tuple[Value, ...]:
    found = [(rate, _percent(rate)) for rate in (errors.false_rejects, errors.missed_defects)]
    return tuple(
        value
        for rate, interval in found
        for value in (f"{rate.count} of {rate.total}" if rate.total else None, interval)
    )


def _thresholds_table(decisions: DecisionQuality) -> Table:
    fields: Tuple[Field[ProductQuality], ...] = (
        (text("product"), lambda item: item.name),
        _THRESHOLD,
        *_MEASURES,
    )
    table = tabulate("thresholds and measures of products", fields, decisions.products)
    means = (decisions.presorted_good, decisions.presorted_bad, decisions.aupimo, decisions.seg_f1)
    rows = (*table.rows, ("mean", None, *means))
    notes = (
        *_origins(decisions),
        "A threshold is in units of a product's score: 0 is the median of its good images, 1 about one "
        "standard deviation.",
        _MEASURES_NOTE,
    )
    return Table(table.title, table.columns, rows, notes, (len(table.rows) - 1,))


def _origins(decisions: DecisionQuality) -> Iterator[str]:
    """Yield what chose the thresholds, with the products of each choice."""
    names: Dict[str, List[str]] = {}
    for one in decisions.products:
        if one.product is not None:
            names.setdefault(one.origin, []).append(one.name)
    return (f"threshold of {', '.join(products)}: {origin}" for origin, products in names.items())


def _recognition_table(engines: Sequence[Tuple[str, RecognitionQuality]]) -> Table:
    columns = (
        text("category"),
        *(Column("images"), Column("recognized"), text("mistaken for")),
        *(Column("unknown, good"), Column("unknown, defective")),
    )
    named = any(name for name, _ in engines)
    rows: List[Tuple[Value, ...]] = []
    for name, recognition in engines:
        groups: Dict[str, List[RecognitionCount]] = {}
        for count in recognition.counts:
            groups.setdefault(count.category, []).append(count)
        found = [(category, *_recognized(category, counts)) for category, counts in groups.items()]
        rows += [(name, *row) if named else row for row in found]
    return Table(
        "Recognition of products" if named else "recognition of products",
        (text("engine"), *columns) if named else columns,
        tuple(rows),
        tuple(f"{name}: {_summary(one)}" if named else _summary(one) for name, one in engines),
        key="recognition",
    )


def _recognized(category: str, counts: Sequence[RecognitionCount]) -> Tuple[Value, ...]:
    right = sum(one.good + one.defective for one in counts if one.product == category)
    wrong = [f"{one.product} {one.good + one.defective}" for one in counts if one.product != category]
    images = sum(one.good + one.defective for one in counts)
    unknown = sum(one.unknown_good for one in counts), sum(one.unknown_defective for one in counts)
    return (images, right, ", ".join(wrong) or None, *unknown)


def _summary(recognition: RecognitionQuality) -> str:
    parts = []
    if recognition.accuracy.total:
        parts = [
            f"recognized {_share(recognition.accuracy)}",
            f"called an unknown product: good images {_share(recognition.unknown_good)}, "
            f"defective images {_share(recognition.unknown_defective)}",
        ]
    if recognition.unknown_found.total:
        parts.append(f"images of no product, found to be unknown: {_share(recognition.unknown_found)}")
    return "; ".join(parts) or "no image was scored"


def _share(rate: CountedRate) -> str:
    if rate.rate is None:
        return "-"
    return f"{rate.count} of {rate.total} ({100 * rate.low:.1f} to {100 * rate.high:.1f} %)"


def _percent(rate: CountedRate) -> Optional[Interval]:
    return Interval(100 * rate.low, 100 * rate.high) if rate.total else None
