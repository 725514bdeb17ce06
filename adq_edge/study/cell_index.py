"""Finds a study's cells by their properties, and declares the columns that its tables share."""

from __future__ import annotations

from typing import Dict, List, NamedTuple, Optional, Tuple

from adq_edge.core.options import Device
from adq_edge.report.table import Column, Field, Value, part, text
from adq_edge.study.config import Training, Variant
from adq_edge.study.matrix import Cell
from adq_edge.study.published import Figures, Stated, published
from adq_edge.study.results import CellResult, CellState, StudyResult


class Row(NamedTuple):
    """A cell as a row: our result, if there is one, and the published figures.

    Attributes:
        auroc: our image AUROC, 0 to 1, or the cell's state if it has no result.
        change: our image AUROC minus that of FP32; None where they are not comparable.
    """

    cell: Cell
    result: Optional[CellResult]
    auroc: Value
    change: Optional[float]
    published: Figures


class CellIndex:
    """A study's cells by their properties."""

    def __init__(self, study: StudyResult) -> None:
        self.study = study
        self.states: Dict[Cell, CellState] = {state.cell: state for state in study.cells}

    def cells(self, *variants: Variant, training: Optional[Training] = None) -> List[Cell]:
        """Return the cells of these variants, in the matrix's order."""
        return [
            cell for cell in self.states if cell.variant in variants and training in (None, cell.training)
        ]

    def tried(self, *variants: Variant) -> List[Cell]:
        """Return the cells of these variants that have a result or failed."""
        return [
            cell
            for cell in self.cells(*variants)
            if self.states[cell].result is not None or self.states[cell].failed
        ]

    def result(self, cell: Cell) -> Optional[CellResult]:
        """Return a cell's result; None without one."""
        state = self.states.get(cell)
        return None if state is None else state.result

    def any_device(self, method: str, training: Training) -> Optional[CellResult]:
        """Return the FP32 result of the first device that has one."""
        results = (self.result(Cell(method, training, Variant.FP32, device)) for device in Device)
        return next((result for result in results if result is not None), None)

    def row(self, cell: Cell) -> Row:
        """Return a cell as a row."""
        result = self.result(cell)
        return Row(
            cell, result, self.auroc(cell), change(result, self.result(cell.baseline)), published(cell)
        )

    def auroc(self, cell: Optional[Cell]) -> Value:
        """Return a cell's image AUROC, or its state without a result; None for a cell outside this study."""
        state = None if cell is None else self.states.get(cell)
        if state is None:
            return None
        if state.result is None:
            return "failed" if state.failed else "pending" if state.reason is None else "not run"
        return state.result.quality.image_auroc


def change(result: Optional[CellResult], reference: Optional[CellResult]) -> Optional[float]:
    """Return the difference of the image AUROC; None unless machine and runtime are the same."""
    if result is None or reference is None or result.machine != reference.machine:
        return None
    ours, theirs = result.quality.image_auroc, reference.quality.image_auroc
    return None if ours is None or theirs is None else ours - theirs


def as_published(values: Optional[Stated], spec: str = ".2f") -> Optional[str]:
    """Format a published figure; two numbers where the publication's tables differ."""
    return None if values is None else " to ".join(format(value, spec) for value in values)


def auroc_column(name: str) -> Column:
    """Return a column of image AUROCs."""
    return Column(name, spec=".4f")


METHOD: Field[Row] = (text("method"), lambda row: row.cell.method)
TRAINING: Field[Row] = (text("training"), lambda row: row.cell.training.value)
DEVICE: Field[Row] = (text("device"), lambda row: row.cell.device.value)
AUROC: Field[Row] = (auroc_column("AUROC"), lambda row: row.auroc)
CHANGE: Field[Row] = (Column("change to FP32", spec="+.4f"), lambda row: row.change)
PUBLISHED_AUROC: Field[Row] = (Column("published"), lambda row: as_published(row.published.auroc))

_SPEED: List[Field[Row]] = part(
    lambda row: None if row.result is None else row.result.speed,
    (
        (Column("mean", "ms", ".2f"), lambda speed: speed.mean_ms),
        (Column("p50", "ms", ".2f"), lambda speed: speed.p50_ms),
        (Column("p90", "ms", ".2f"), lambda speed: speed.p90_ms),
        (Column("p99", "ms", ".2f"), lambda speed: speed.p99_ms),
        (Column("ratio to FP32", spec=".3f"), lambda speed: speed.ratio),
        (Column("throughput", "images/s", ".1f"), lambda speed: speed.images_per_second),
        (Column("peak RSS", "MB", ".0f"), lambda speed: speed.peak_rss_mb),
        (Column("energy", "J/image", ".3f"), lambda speed: speed.joules_per_image),
    ),
)
_MEAN, *_PERCENTILES, RATIO, _THROUGHPUT, _PEAK_RSS, ENERGY = _SPEED
_PUBLISHED_MS: Field[Row] = (Column("published", spec="g"), lambda row: row.published.ms)
TIMES = (_MEAN, _PUBLISHED_MS, *_PERCENTILES)
RESOURCES = (_THROUGHPUT, _PEAK_RSS, ENERGY)
SIZES: Tuple[Field[Row], ...] = (
    (Column("size", "MB", ".1f"), lambda row: None if row.result is None else row.result.all_engines_mb),
    (Column("published"), lambda row: as_published(row.published.mb, "g")),
)
"""File sizes; the total of all engines for one-class models."""
