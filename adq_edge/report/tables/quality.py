"""The tables of `eval`: one engine's categories, and all engines of a report."""

from __future__ import annotations

from pathlib import PurePath
from typing import Dict, Iterator, List, Optional, Sequence, Tuple, Union

from adq_edge.evaluation.evaluate import Evaluation
from adq_edge.evaluation.scoring import CategoryQuality
from adq_edge.evaluation.useless_thresholds import find_useless_thresholds
from adq_edge.metrics.agreement import Auroc, CategoryAgreement
from adq_edge.report.phrasing import precision_name
from adq_edge.report.table import Column, Table, Value, text

_FIGURES = (
    *(Column(name, spec=".4f") for name in ("image AUROC", "pixel AUROC", "AUPRO", "F1-max")),
    Column("threshold", spec=".4g"),
)
_COLUMNS = (*_FIGURES, Column("images"), Column("defective"))


def evaluation_table(evaluation: Evaluation) -> Table:
    """Return one engine's quality per category; counts in one column, so that they fit a terminal."""
    categories = [
        (one.name, *_figures(one), count_defective(one.anomalous, one.images))
        for one in evaluation.categories
    ]
    defective = sum(category.anomalous for category in evaluation.categories)
    total = ("mean", *_figures(evaluation), count_defective(defective, len(evaluation.scores)))
    return Table(
        f"{evaluation.engine.name} on {evaluation.data}",
        (text("category"), *_FIGURES, Column("defective")),
        (*categories, total),
        (_threshold_note(evaluation), *_cautions(evaluation), *explain_gaps(evaluation.categories)),
        rules=(len(categories) - 1,),
    )


def quality_table(evaluations: Sequence[Evaluation]) -> Table:
    """Return each engine's quality over all categories."""
    rows = tuple(
        (
            file_name(item.engine.name),
            *_total(item),
            *(precision_name(item.precision), item.runtime, item.data),
        )
        for item in evaluations
    )
    columns = (text("engine"), *_COLUMNS, text("precision"), text("runtime"), text("data"))
    note = "AUROC and AUPRO: means over the categories. F1-max and threshold: over all images together."
    incomplete = [item for item in evaluations if None in _figures(item)]
    dashes = explain_gaps([category for item in incomplete for category in item.categories])
    cautions = [line for item in evaluations for line in _cautions(item)]
    return Table("Quality", columns, rows, (note, *dashes, *cautions), key="quality")


def categories_table(evaluations: Sequence[Evaluation]) -> Table:
    """Return each engine's quality per category."""
    rows = tuple(
        (file_name(item.engine.name), category.name, *_category(category))
        for item in evaluations
        for category in item.categories
    )
    columns = (text("engine"), text("category"), *_COLUMNS)
    notes = explain_gaps([category for item in evaluations for category in item.categories])
    return Table("Quality per category", columns, rows, notes, key="categories")


def _threshold_note(evaluation: Evaluation) -> str:
    what = "last row: F1-max and threshold over all images"
    if evaluation.not_stored is None:
        return f"{what}; this threshold is stored with the engine"
    return f"{what}; no threshold is stored: {evaluation.not_stored}"


def _cautions(evaluation: Evaluation) -> Iterator[str]:
    """Yield why the thresholds of an engine must not be used, one sentence each."""
    if evaluation.unused_products is not None:
        yield f"products are not used: {evaluation.unused_products}"
    yield from find_useless_thresholds(evaluation)


def explain_gaps(categories: Sequence[Union[CategoryQuality, CategoryAgreement]]) -> Tuple[str, ...]:
    """Return why figures of categories are missing or partial, one reason a line, with their names."""
    names: Dict[str, List[str]] = {}
    for category in categories:
        for reason in _reasons(category):
            names.setdefault(reason, []).append(category.name)
    return tuple(f"{reason}: {', '.join(dict.fromkeys(found))}" for reason, found in names.items())


def _reasons(category: Union[CategoryQuality, CategoryAgreement]) -> Iterator[str]:
    masks = category.masks if isinstance(category, CategoryQuality) else None
    if category.anomalous == category.images:
        yield "-: no good test images"
    if not category.anomalous:
        yield "-: no defective test images"
    elif category.pixel_auroc in (None, Auroc(None, None, None)):
        yield "-: no usable masks" if masks else "-: no masks"
    elif masks is not None and masks < category.anomalous:
        yield f"{masks} of {category.anomalous} defective images have a mask, for pixel AUROC and AUPRO"


def count_defective(defective: int, images: int) -> str:
    """Return the number of defective images among all."""
    return f"{defective} of {images}"


def file_name(path: Optional[str]) -> str:
    """Return an engine's file name; its folder means nothing on another machine."""
    return PurePath(path or "").name


def _category(category: CategoryQuality) -> Tuple[Value, ...]:
    return (*_figures(category), category.images, category.anomalous)


def _total(evaluation: Evaluation) -> Tuple[Value, ...]:
    defective = sum(category.anomalous for category in evaluation.categories)
    return (*_figures(evaluation), len(evaluation.scores), defective)


def _figures(quality: Union[CategoryQuality, Evaluation]) -> Tuple[Value, ...]:
    return quality.image_auroc, quality.pixel_auroc, quality.aupro, quality.f1, quality.threshold
