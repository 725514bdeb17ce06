"""Build a study's tables from its result: our figures next to the published figures."""

from __future__ import annotations

from collections import Counter
from typing import Callable, List, Optional, Sequence

from adq_edge.core.options import Device
from adq_edge.report.table import Column, Field, Table, Value, prose, tabulate, text
from adq_edge.study.captions import caption, notes
from adq_edge.study.cell_index import (
    AUROC,
    CHANGE,
    DEVICE,
    ENERGY,
    METHOD,
    PUBLISHED_AUROC,
    RATIO,
    RESOURCES,
    SIZES,
    TIMES,
    TRAINING,
    CellIndex,
    Row,
    as_published,
    auroc_column,
    change,
)
from adq_edge.study.config import Training, Variant
from adq_edge.study.matrix import Cell
from adq_edge.study.published import published
from adq_edge.study.results import CellResult, StudyResult

_IMAGES = "images"


def study_tables(study: StudyResult) -> List[Table]:
    """Return all tables that have a row, in a fixed order."""
    index = CellIndex(study)
    builders: Sequence[Callable[[CellIndex], Table]] = (
        _trainings,
        _categories,
        _fp32,
        _post_training,
        _quantization_aware,
        _accelerators,
        _without_figures,
    )
    return [table for table in (build(index) for build in builders) if table.rows]


def notes_table(study: StudyResult) -> Table:
    """Return the notes that apply to all tables."""
    return Table("Notes", (prose(""),), tuple((note,) for note in notes(study)))


def _trainings(index: CellIndex) -> Table:
    rows = []
    for method in dict.fromkeys(cell.method for cell in index.cells(Variant.FP32)):
        unified = index.any_device(method, Training.UNIFIED)
        one_class = index.any_device(method, Training.ONE_CLASS)
        if unified is None and one_class is None:
            continue
        theirs = {one: published(Cell(method, one, Variant.FP32, Device.CPU)).auroc for one in Training}
        rows.append(
            (
                *(method, None if one_class is None else len(one_class.engines)),
                *(_auroc(one_class), as_published(theirs[Training.ONE_CLASS])),
                *(_auroc(unified), as_published(theirs[Training.UNIFIED]), change(unified, one_class)),
                *(_megabytes(one_class), _megabytes(unified)),
            )
        )
    columns = (
        *(text("method"), Column("one-class models"), auroc_column("one-class AUROC"), Column("published")),
        *(auroc_column("unified AUROC"), Column("published"), Column("unified - one-class", spec="+.4f")),
        *(Column("one-class, all", "MB", ".1f"), Column("unified", "MB", ".1f")),
    )
    title = "One unified model compared with one model for each category, FP32"
    return Table(title, columns, tuple(rows), caption(index.study, timed=False))


def _auroc(result: Optional[CellResult]) -> Optional[float]:
    return None if result is None else result.quality.image_auroc


def _megabytes(result: Optional[CellResult]) -> Optional[float]:
    return None if result is None else result.all_engines_mb


def _categories(index: CellIndex) -> Table:
    results = {
        f"{method} {training.value}": result
        for method in dict.fromkeys(cell.method for cell in index.cells(Variant.FP32))
        for training in Training
        for result in [index.any_device(method, training)]
        if result is not None
    }
    names = index.study.data.names if results else ()
    rows = tuple((name, *(_category_auroc(result, name) for result in results.values())) for name in names)
    columns = (text("category"), *map(auroc_column, results))
    notes_shown = caption(index.study, timed=False, compared=False)
    return Table("Image AUROC by category, FP32", columns, rows, notes_shown)


def _category_auroc(result: CellResult, category: str) -> Optional[float]:
    return next((one.image_auroc for one in result.quality.categories if one.name == category), None)


def _fp32(index: CellIndex) -> Table:
    fields = [METHOD, DEVICE, AUROC, PUBLISHED_AUROC, *TIMES, *SIZES, *RESOURCES]
    rows = map(index.row, index.cells(Variant.FP32, training=Training.UNIFIED))
    return tabulate("FP32 on each device", fields, rows, caption(index.study))


def _post_training(index: CellIndex) -> Table:
    calibration: Sequence[Field[Row]] = (
        (text("source"), lambda row: row.cell.source),
        (text("calibrator"), lambda row: row.cell.calibrator),
    )
    fields = [METHOD, TRAINING, DEVICE, *calibration, AUROC, CHANGE, PUBLISHED_AUROC, *TIMES, RATIO, *SIZES]
    note = "published ranges: by L2 over histograms in PyTorch (CPU), by entropy in TensorRT"
    rows = map(index.row, index.tried(Variant.PTQ))
    title = "INT8 by post-training quantization (PTQ), by calibration source and calibrator"
    return tabulate(title, fields, rows, caption(index.study, note))


def _quantization_aware(index: CellIndex) -> Table:
    def published_ptq(row: Row) -> Value:
        cell = _default_ptq(index, row.cell)
        return None if cell is None else as_published(published(cell).auroc)

    before: Sequence[Field[Row]] = (
        (auroc_column("FP32 AUROC"), lambda row: index.auroc(row.cell.baseline)),
        (Column("published"), lambda row: as_published(published(row.cell.baseline).auroc)),
        (auroc_column("PTQ AUROC"), lambda row: index.auroc(_default_ptq(index, row.cell))),
        (Column("published"), published_ptq),
        (auroc_column("QAT AUROC"), lambda row: row.auroc),
    )
    fields = [METHOD, TRAINING, DEVICE, *before, PUBLISHED_AUROC, *TIMES, RATIO, *SIZES]
    calibrators = index.study.config.calibrators
    note = f"PTQ: calibrated on images with {calibrators[0]}" if index.cells(Variant.PTQ) else ""
    rows = map(index.row, index.tried(Variant.QAT))
    return tabulate("INT8 by quantization-aware training (QAT)", fields, rows, caption(index.study, note))


def _default_ptq(index: CellIndex, cell: Cell) -> Optional[Cell]:
    """Return the INT8 cell that is calibrated on images with the first calibrator."""
    calibrated = index.cells(Variant.PTQ)  # in the configuration's order
    return next((one for one in calibrated if one.source == _IMAGES and one.baseline == cell.baseline), None)


def _accelerators(index: CellIndex) -> Table:
    precision: Field[Row] = (text("precision"), lambda row: row.cell.precision.value)
    fields = [METHOD, DEVICE, precision, AUROC, CHANGE, PUBLISHED_AUROC, *TIMES, RATIO, *SIZES, ENERGY]
    cells = [
        cell
        for cell in index.cells(Variant.FP16, Variant.PTQ, training=Training.UNIFIED)
        if cell.variant is not Variant.PTQ or cell == _default_ptq(index, cell)
    ]
    note = "FP16 on a CPU means weights stored in float16"
    rows = map(index.row, cells)
    return tabulate("FP16 and INT8 on each device", fields, rows, caption(index.study, note))


def _without_figures(index: CellIndex) -> Table:
    states = [state for state in index.states.values() if state.result is None]
    counts = Counter(
        (state.cell.device.value, "failed" if state.failed else "not run", state.reason or "pending")
        for state in states
    )
    rows = tuple((device, count, what, why) for (device, what, why), count in sorted(counts.items()))
    columns = (text("device"), Column("cells"), text("state"), prose("why"))
    return Table("Cells without figures", columns, rows)
