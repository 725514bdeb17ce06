"""The study's tables, made from its result alone: our figures, and the study's beside them."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Callable, List, Optional, Sequence, Tuple

from adq_edge.core.options import Device
from adq_edge.study.captions import caption
from adq_edge.study.cell_index import (
    RESOURCES,
    SIZES,
    TIMES,
    Found,
    auroc,
    change,
    number,
    resources,
    said,
    sizes,
    times,
)
from adq_edge.study.config import Training, Variant
from adq_edge.study.matrix import Cell
from adq_edge.study.published import published
from adq_edge.study.results import CellResult, StudyResult

_IMAGES = "images"


@dataclasses.dataclass(frozen=True)
class StudyTable:
    """A table that is still text, for the screen and for Markdown.

    Attributes:
        title: what it is about.
        headings: of the columns.
        rows: the cells, `-` for what was not measured.
        caption: under what conditions, ours and the study's.
    """

    title: str
    headings: Tuple[str, ...]
    rows: Tuple[Tuple[str, ...], ...]
    caption: str


def study_tables(study: StudyResult) -> List[StudyTable]:
    """Return all tables that have a row, in the order of the study's questions."""
    found = Found(study)
    makers: Sequence[Callable[[Found], StudyTable]] = (
        _trainings,
        _categories,
        _float32,
        _after_training,
        _with_rounding,
        _accelerators,
        _left_out,
    )
    return [table for table in (make(found) for make in makers) if table.rows]


def _trainings(found: Found) -> StudyTable:
    rows = []
    for method in dict.fromkeys(cell.method for cell in found.cells(Variant.FP32)):
        unified = found.any_device(method, Training.UNIFIED)
        one_class = found.any_device(method, Training.ONE_CLASS)
        if unified is None and one_class is None:
            continue
        theirs = [published(Cell(method, training, Variant.FP32, Device.CPU)) for training in Training]
        rows.append(
            (
                method,
                *("-" if one_class is None else str(len(one_class.engines)), auroc(one_class)),
                *(said(theirs[1].auroc, 2), auroc(unified), said(theirs[0].auroc, 2)),
                change(unified, one_class),
                number(None if one_class is None else one_class.all_engines_mb, 1),
                number(None if unified is None else unified.all_engines_mb, 1),
            )
        )
    return StudyTable(
        "One unified model against one model for each category, FP32",
        (
            *("method", "one-class models", "one-class AUROC", "study", "unified AUROC", "study"),
            *("unified - one-class", "one-class MB, all", "unified MB"),
        ),
        tuple(rows),
        caption(found.study, timed=False),
    )


def _categories(found: Found) -> StudyTable:
    pairs = [
        (f"{method} {training.value}", result)
        for method in dict.fromkeys(cell.method for cell in found.cells(Variant.FP32))
        for training in Training
        for result in [found.any_device(method, training)]
        if result is not None
    ]
    names = found.study.data.names if pairs else ()
    rows = tuple((name, *(_auroc_of(result, name) for _, result in pairs)) for name in names)
    return StudyTable(
        "Image AUROC by category, FP32",
        ("category", *(heading for heading, _ in pairs)),
        rows,
        caption(found.study, timed=False, compared=False),
    )


def _auroc_of(result: CellResult, category: str) -> str:
    values = [one.image_auroc for one in result.quality.categories if one.name == category]
    return number(values[0] if values else None, 4)


def _float32(found: Found) -> StudyTable:
    rows = []
    for cell in found.cells(Variant.FP32, training=Training.UNIFIED):
        theirs, result = published(cell), found.result(cell)
        rows.append(
            (
                *(cell.method, cell.device.value, found.auroc(cell), said(theirs.auroc, 2)),
                *times(result, theirs.ms),
                *sizes(result, theirs.mb),
                *resources(result),
            )
        )
    return StudyTable(
        "FP32 on each device",
        ("method", "device", "AUROC", "study", *TIMES, *SIZES, *RESOURCES),
        tuple(rows),
        caption(found.study),
    )


def _after_training(found: Found) -> StudyTable:
    rows = []
    for cell in found.cells(Variant.PTQ):
        state = found.states[cell]
        if state.result is None and not state.failed:
            continue  # said in the last table, once for all of a device
        theirs, result = published(cell), state.result
        rows.append(
            (
                *(cell.method, cell.training.value, cell.device.value, cell.source or "-"),
                *(cell.calibrator or "-", found.auroc(cell), change(result, found.result(cell.baseline))),
                *(said(theirs.auroc, 2), *times(result, theirs.ms)),
                number(None if result is None else result.speed.ratio, 3),
                *sizes(result, theirs.mb),
            )
        )
    return StudyTable(
        "INT8 after training, by calibration source and calibrator",
        (
            *("method", "training", "device", "source", "calibrator", "AUROC", "change to FP32", "study"),
            *(*TIMES, "ratio to FP32", *SIZES),
        ),
        tuple(rows),
        caption(
            found.study,
            "ranges of the study: by L2 over histograms in PyTorch (CPU), by entropy in TensorRT",
        ),
    )


def _with_rounding(found: Found) -> StudyTable:
    rows = []
    for cell in found.cells(Variant.QAT):
        if found.result(cell) is None and not found.states[cell].failed:
            continue
        after = _ordinary(found, cell)
        theirs, result = published(cell), found.result(cell)
        rows.append(
            (
                *(cell.method, cell.training.value, cell.device.value),
                *(found.auroc(cell.baseline), said(published(cell.baseline).auroc, 2)),
                *("-" if after is None else found.auroc(after), _said_of(after)),
                *(found.auroc(cell), said(theirs.auroc, 2), *times(result, theirs.ms)),
                number(None if result is None else result.speed.ratio, 3),
                *sizes(result, theirs.mb),
            )
        )
    return StudyTable(
        "INT8 trained with its rounding",
        (
            *("method", "training", "device", "FP32 AUROC", "study", "INT8 after training", "study"),
            *("INT8 with rounding", "study", *TIMES, "ratio to FP32", *SIZES),
        ),
        tuple(rows),
        caption(
            found.study,
            f"after training: calibrated on images with {found.study.config.calibrators[0]}"
            if found.cells(Variant.PTQ)
            else "",
        ),
    )


def _ordinary(found: Found, cell: Cell) -> Optional[Cell]:
    """Return the INT8 cell that is calibrated on images with the first calibrator."""
    calibrated = found.cells(Variant.PTQ)  # in the configuration's order
    return next((one for one in calibrated if one.source == _IMAGES and one.baseline == cell.baseline), None)


def _said_of(cell: Optional[Cell]) -> str:
    return "-" if cell is None else said(published(cell).auroc, 2)


def _accelerators(found: Found) -> StudyTable:
    rows = []
    for cell in found.cells(Variant.FP16, Variant.PTQ, training=Training.UNIFIED):
        if cell.variant is Variant.PTQ and cell != _ordinary(found, cell):
            continue
        theirs, result = published(cell), found.result(cell)
        rows.append(
            (
                *(cell.method, cell.device.value, cell.precision.value, found.auroc(cell)),
                *(change(result, found.result(cell.baseline)), said(theirs.auroc, 2)),
                *times(result, theirs.ms),
                number(None if result is None else result.speed.ratio, 3),
                *sizes(result, theirs.mb),
                number(None if result is None else result.speed.joules_per_image, 3),
            )
        )
    return StudyTable(
        "FP16 and INT8 on each device",
        (
            *("method", "device", "precision", "AUROC", "change to FP32", "study", *TIMES),
            *("ratio to FP32", *SIZES, "J/image"),
        ),
        tuple(rows),
        caption(
            found.study,
            "FP16 on a CPU means weights stored in float16",
        ),
    )


def _left_out(found: Found) -> StudyTable:
    states = [state for state in found.states.values() if state.result is None]
    counts = Counter(
        (state.cell.device.value, "failed" if state.failed else "not run", state.reason or "still to come")
        for state in states
    )
    rows = tuple((device, str(count), what, why) for (device, what, why), count in sorted(counts.items()))
    return StudyTable("Cells without figures", ("device", "cells", "state", "why"), rows, "")
