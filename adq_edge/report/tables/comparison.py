"""The tables of `compare`."""

from __future__ import annotations

from typing import List, Optional, Sequence, Tuple

from adq_edge.core.text import decibels
from adq_edge.evaluation.compare import ComparedEngine, Comparison
from adq_edge.metrics.agreement import Auroc, Flips, ProductAgreement
from adq_edge.report.phrasing import precision_name
from adq_edge.report.table import Column, Field, Table, Value, part, tabulate, text
from adq_edge.report.tables.quality import count_defective, explain_gaps, file_name


def agreement_table(comparison: Comparison) -> Table:
    """Return how far the scores, maps and decisions of two engines agree, one measure a row."""
    scores, maps, bias = comparison.scores, comparison.maps, comparison.scores.relative_bias
    rows: Tuple[Tuple[str, str], ...] = (
        ("images", str(len(comparison.images))),
        ("score difference, largest", f"{scores.largest_difference:.4g}"),
        ("score difference, mean", f"{scores.mean_difference:.4g}"),
        ("score bias, median", "-" if bias is None else f"{100 * bias:+.2f} %"),
        ("score rank correlation (Spearman)", "-" if scores.spearman is None else f"{scores.spearman:.4f}"),
        ("map difference, largest pixel", f"{maps.largest_difference:.4g}"),
        ("map difference, mean", f"{maps.mean_difference:.4g}"),
        ("map SNR, all images", decibels(maps.snr_db)),
        ("map SNR, median image", decibels(maps.median_snr_db)),
    )
    if comparison.decisions is None:
        rows += (
            ("threshold of A", _threshold(comparison.engine_a)),
            ("threshold of B", _threshold(comparison.engine_b)),
            ("decisions that flip, own thresholds", _flips(comparison.flips)),
            ("decisions that flip, A's threshold for both", _flips(comparison.flips_at_a)),
        )
    else:
        rows += (("decisions that flip, own products", _flips(comparison.flips)),)
    sides = (("A", comparison.engine_a), ("B", comparison.engine_b))
    notes = tuple(f"{letter}: {side.engine.name}, {side.precision}, {side.runtime}" for letter, side in sides)
    if comparison.without_products is not None:
        notes += (
            "Each engine has one threshold for all products, which says little about decisions on a line: "
            f"{comparison.without_products}",
        )
    return Table("agreement of B with A", (text("measure"), Column("value")), rows, notes, rules=(4, 8))


_DECISIONS: Tuple[Field[ProductAgreement], ...] = (
    (text("product"), lambda item: item.product),
    (Column("images"), lambda item: item.images),
    (Column("verdicts that flip"), lambda item: item.flips.count),
    (Column("only B rejects"), lambda item: item.now_rejected),
    (Column("only A rejects"), lambda item: item.flips.count - item.now_rejected),
    (Column("now wrong"), lambda item: item.flips.mistakes),
    (Column("p-value rank correlation", spec=".4f"), lambda item: item.spearman),
)


def decisions_tables(comparison: Comparison) -> List[Table]:
    """Return how far the decisions agree, one product a row; no table without products."""
    if comparison.decisions is None:
        return []
    products = comparison.decisions.products
    note = "Each engine judges with its own products, at the thresholds in force."
    notes = [note, *comparison.decisions.notes]
    rows = (*products, comparison.decisions.total)
    return [tabulate("decisions of B and A", _DECISIONS, rows, notes, rules=(len(products) - 1,))]


def flips_table(comparisons: Sequence[Comparison]) -> Table:
    """Return how far the decisions of pairs of engines agree, one product a row."""
    items = [
        (comparison, product)
        for comparison in comparisons
        if comparison.decisions is not None
        for product in (*comparison.decisions.products, comparison.decisions.total)
    ]
    of_pair: List[Field[Tuple[Comparison, ProductAgreement]]] = part(lambda pair: pair[1], _DECISIONS)
    fields = [
        (text("engine B"), lambda pair: file_name(pair[0].engine_b.engine.name)),
        (text("reference A"), lambda pair: file_name(pair[0].engine_a.engine.name)),
        *of_pair,
    ]
    note = "Each engine judges with its own products, at the thresholds in force."
    return tabulate("Decisions that flip", fields, items, [note], key="flips")


def auroc_table(comparison: Comparison) -> Table:
    """Return both engines' AUROC per category and their differences."""
    columns = (
        text("category"),
        *(Column("image A", spec=".4f"), Column("image B", spec=".4f"), Column("image B - A", spec="+.4f")),
        *(Column("pixel A", spec=".4f"), Column("pixel B", spec=".4f"), Column("pixel B - A", spec="+.4f")),
        Column("defective"),
    )
    categories = [
        (
            *(one.name, *_auroc(one.image_auroc), *_auroc(one.pixel_auroc)),
            count_defective(one.anomalous, one.images),
        )
        for one in comparison.categories
    ]
    defective = sum(category.anomalous for category in comparison.categories)
    means = (*_auroc(comparison.image_auroc), *_auroc(comparison.pixel_auroc))
    rows = (*categories, ("mean", *means, count_defective(defective, len(comparison.images))))
    notes = explain_gaps(comparison.categories)
    return Table(f"AUROC on {comparison.data}", columns, rows, notes, rules=(len(categories) - 1,))


_AGREEMENT: Tuple[Field[Comparison], ...] = (
    (text("engine B"), lambda item: file_name(item.engine_b.engine.name)),
    (text("reference A"), lambda item: file_name(item.engine_a.engine.name)),
    (Column("images"), lambda item: len(item.images)),
    (Column("image AUROC, B - A", spec=".4f"), lambda item: item.image_auroc.difference),
    (Column("pixel AUROC, B - A", spec=".4f"), lambda item: item.pixel_auroc.difference),
    (Column("score bias", "%", ".2f"), lambda item: _percent(item.scores.relative_bias)),
    (Column("rank correlation", spec=".4f"), lambda item: item.scores.spearman),
    (text("map SNR"), lambda item: decibels(item.maps.snr_db)),
    (Column("decisions that flip"), lambda item: None if item.flips is None else item.flips.count),
    (Column("now wrong"), lambda item: None if item.flips is None else item.flips.mistakes),
)


def agreements_table(comparisons: Sequence[Comparison]) -> Table:
    """Return how far pairs of engines agree, one pair a row."""
    note = (
        "Score bias: median of (B - A) / A. Decisions: each engine with its own products, or without them "
        "at its own threshold."
    )
    return tabulate("Agreement of engines of one model", _AGREEMENT, comparisons, [note], key="agreement")


def costs_table(comparisons: Sequence[Comparison]) -> Table:
    """Return the quality of one reference and of the engines that were compared with it, one engine a row."""
    first = comparisons[0]
    reference = (
        *(file_name(first.engine_a.engine.name), _weights(first.engine_a)),
        *(first.image_auroc.a, None, None, first.pixel_auroc.a, None, None, None),
    )
    rows = [
        (
            *(file_name(one.engine_b.engine.name), _weights(one.engine_b)),
            *(one.image_auroc.b, one.image_auroc.difference, _worst_category(one)),
            *(one.pixel_auroc.b, one.pixel_auroc.difference, decibels(one.maps.snr_db)),
            None if one.flips is None else one.flips.count,
        )
        for one in comparisons
    ]
    columns = (
        *(text("engine"), text("weights")),
        *(Column("image AUROC", spec=".4f"), Column("image B - A", spec="+.4f"), text("worst category")),
        *(Column("pixel AUROC", spec=".4f"), Column("pixel B - A", spec="+.4f"), text("map SNR")),
        Column("decisions that flip"),
    )
    title = f"what each engine costs, on {first.data}"
    return Table(title, columns, (reference, *rows), (f"A: {reference[0]}.",), rules=(0,))


def categories_table(comparisons: Sequence[Comparison]) -> Table:
    """Return the image AUROC of one reference and of other engines, one category a row."""
    first = comparisons[0]
    names = [file_name(first.engine_a.engine.name)]
    names += [file_name(one.engine_b.engine.name) for one in comparisons]
    columns = (text("category"), *(Column(name, spec=".4f") for name in names))
    rows = [
        (
            category.name,
            category.image_auroc.a,
            *(one.categories[number].image_auroc.b for one in comparisons),
        )
        for number, category in enumerate(first.categories)
    ]
    return Table("image AUROC of each category", columns, tuple(rows), tuple(explain_gaps(first.categories)))


def _weights(side: ComparedEngine) -> str:
    name = precision_name(side.precision)
    return name if side.sparsity is None else f"{name} {side.sparsity.value}"


def _worst_category(comparison: Comparison) -> Optional[str]:
    """Return the category whose image AUROC drops most, and the change; None if none drops."""
    changes = [
        (category.image_auroc.difference, category.name)
        for category in comparison.categories
        if category.image_auroc.difference is not None
    ]
    change, name = min(changes, default=(0.0, ""))
    return f"{name} {change:+.4f}" if change < 0 else None


def _percent(share: Optional[float]) -> Optional[float]:
    return None if share is None else 100 * share


def _auroc(value: Auroc) -> Tuple[Value, Value, Value]:
    return value.a, value.b, value.difference


def _threshold(side: ComparedEngine) -> str:
    if side.threshold is None:
        return "- (images of one class only)"
    origin = "stored by eval" if side.threshold_stored else "F1-max over these images"
    return f"{side.threshold.score:.4g} ({origin})"


def _flips(flips: Optional[Flips]) -> str:
    if flips is None:
        return "-"
    return f"{flips.count} ({flips.mistakes} now wrong, {flips.count - flips.mistakes} now right)"
