"""Prints the progress of a study: a line for each cell, with an estimate of the remaining time.

There is no live display, because the steps of a cell have their own progress bars.
"""

from __future__ import annotations

import time
from typing import List, Sequence

from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

from adq_edge.core.console import SafeConsole
from adq_edge.core.text import number_of
from adq_edge.study.matrix import Cell
from adq_edge.study.results import CellState

_BAR = 24
_UNITS = (("s", 1), ("min", 60), ("h", 3600))


class StudyProgress:
    """Prints a study's progress on stderr, if `enabled`; `states` are all cells, `todo` those of this run."""

    def __init__(self, states: Sequence[CellState], todo: Sequence[Cell], enabled: bool) -> None:
        self._console = SafeConsole(stderr=True, quiet=not enabled)
        self._todo = list(todo)
        self._total = len(states)
        self._left_out = sum(state.reason is not None and state.result is None for state in states)
        self._done = sum(state.result is not None for state in states)
        self._seconds: List[float] = [s.result.seconds for s in states if s.result is not None]
        self._started = time.monotonic()
        self._console.print(
            f"study: {number_of(self._total, 'cell')}, {self._done} done before, "
            f"{self._left_out} not possible here, {len(self._todo)} to run"
        )

    def begin(self, cell: Cell) -> None:
        """Print which cell is next."""
        self._started = time.monotonic()
        self._console.print(f"-- {cell.label}", style="dim")

    def end(self, state: CellState) -> None:
        """Print a cell's result, the progress, and an estimate of the remaining time."""
        seconds = time.monotonic() - self._started
        self._todo.remove(state.cell)
        self._seconds.append(seconds)
        cells = self._total - self._left_out
        finished = cells - len(self._todo)
        text = f"{state.cell.label}: {_outcome(state)}, {seconds:.0f} s; {self._left()}"
        if not self._console.is_terminal:
            self._console.print(f"{finished}/{cells} {text}", soft_wrap=True)
            return
        line = Table.grid(Column(no_wrap=True), Column(no_wrap=True), Column(), padding=(0, 1))
        bar = ProgressBar(total=cells, completed=finished, width=_BAR)
        line.add_row(bar, Text(f"{finished}/{cells}"), Text(text))
        self._console.print(line)

    def _left(self) -> str:
        if not self._todo:
            return "done"
        seconds = len(self._todo) * sum(self._seconds) / len(self._seconds)
        unit, size = next((pair for pair in _UNITS if seconds < 90 * pair[1]), _UNITS[-1])
        return f"about {seconds / size:.0f} {unit} left (estimate)"


def _outcome(state: CellState) -> str:
    if state.result is None:
        return f"{'failed' if state.failed else 'not run'}: {(state.reason or '').rstrip('.')}"
    quality, speed = state.result.quality, state.result.speed
    auroc = "no AUROC" if quality.image_auroc is None else f"AUROC {quality.image_auroc:.4f}"
    return f"{auroc}, p50 {speed.p50_ms:.2f} ms, {speed.engine_mb:.1f} MB"
