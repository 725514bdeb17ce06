"""A study's cells by what they are, and their figures as the columns of tables."""

from __future__ import annotations

from typing import Dict, Iterable, List, Optional

from adq_edge.core.options import Device
from adq_edge.study.config import Training, Variant
from adq_edge.study.matrix import Cell
from adq_edge.study.published import Stated
from adq_edge.study.results import CellResult, CellState, StudyResult

TIMES = ("mean ms", "study", "p50 ms", "p90 ms", "p99 ms")
SIZES = ("MB", "study")
RESOURCES = ("images/s", "peak RSS MB", "J/image")


class Found:
    """A study's cells by what they are."""

    def __init__(self, study: StudyResult) -> None:
        self.study = study
        self.states: Dict[Cell, CellState] = {state.cell: state for state in study.cells}

    def cells(self, *variants: Variant, training: Optional[Training] = None) -> List[Cell]:
        """Return the cells of some variants, in the matrix's order."""
        return [
            cell for cell in self.states if cell.variant in variants and training in (None, cell.training)
        ]

    def result(self, cell: Cell) -> Optional[CellResult]:
        """Return a cell's figures, if it has any."""
        state = self.states.get(cell)
        return None if state is None else state.result

    def any_device(self, method: str, training: Training) -> Optional[CellResult]:
        """Return the FP32 result of the first device that has one."""
        results = (self.result(Cell(method, training, Variant.FP32, device)) for device in Device)
        return next((result for result in results if result is not None), None)

    def auroc(self, cell: Cell) -> str:
        """Show a cell's AUROC, or why there is none in a word."""
        state = self.states.get(cell)
        if state is None:
            return "-"
        if state.result is None:
            return "failed" if state.failed else "to come" if state.reason is None else "not run"
        return number(state.result.quality.image_auroc, 4)


def number(value: Optional[float], digits: int) -> str:
    """Show a number, or a dash for what was not measured."""
    return "-" if value is None else f"{value:.{digits}f}"


def said(values: Optional[Stated], digits: int) -> str:
    """Show a figure as the study gives it."""
    return "-" if values is None else " to ".join(number(value, digits) for value in values)


def change(value: Optional[CellResult], reference: Optional[CellResult]) -> str:
    """Show by how much the AUROC differs, of engines that the same runtime ran on the same machine."""
    if value is None or reference is None or value.machine != reference.machine:
        return "-"
    pair = (value.quality.image_auroc, reference.quality.image_auroc)
    return "-" if pair[0] is None or pair[1] is None else f"{pair[0] - pair[1]:+.4f}"


def auroc(result: Optional[CellResult]) -> str:
    """Show the mean image AUROC."""
    return number(None if result is None else result.quality.image_auroc, 4)


def times(result: Optional[CellResult], stated: Optional[float]) -> Iterable[str]:
    """Fill the columns `TIMES`."""
    speed = None if result is None else result.speed
    shown = "-" if stated is None else f"{stated:g}"
    if speed is None:
        return ("-", shown, "-", "-", "-")
    return (
        number(speed.mean_ms, 2),
        shown,
        *(number(value, 2) for value in (speed.p50_ms, speed.p90_ms, speed.p99_ms)),
    )


def sizes(result: Optional[CellResult], stated: Optional[Stated]) -> Iterable[str]:
    """Fill the columns `SIZES`; of one-class models, the engines of all together."""
    shown = "-" if stated is None else " to ".join(f"{value:g}" for value in stated)
    return (number(None if result is None else result.all_engines_mb, 1), shown)


def resources(result: Optional[CellResult]) -> Iterable[str]:
    """Fill the columns `RESOURCES`."""
    if result is None:
        return ("-", "-", "-")
    speed = result.speed
    return (
        number(speed.images_per_second, 1),
        number(speed.peak_rss_mb, 0),
        number(speed.joules_per_image, 3),
    )
