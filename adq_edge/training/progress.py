"""The progress bar of a training, on stderr."""

from __future__ import annotations

from types import TracebackType
from typing import Optional, Type

from rich.progress import BarColumn, TextColumn, TimeRemainingColumn

from adq_edge.core.console import WHOLE, WRAPPED, PlainProgress, SafeConsole


class TrainingProgress:
    """One line with the phase, the speed in images/s and the remaining time; silent unless `enabled`."""

    def __init__(self, enabled: bool) -> None:
        self._bar = PlainProgress(
            TextColumn("{task.description}", markup=False, table_column=WRAPPED),
            BarColumn(),
            TextColumn("{task.fields[detail]}", markup=False, table_column=WHOLE),
            TimeRemainingColumn(table_column=WHOLE),
            console=SafeConsole(stderr=True, quiet=not enabled),
        )
        self._task = self._bar.add_task("", detail="", visible=False)
        self._loss = ""

    def __enter__(self) -> TrainingProgress:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self._bar.stop()

    def print_line(self, text: str) -> None:
        """Print a line above the bar."""
        self._bar.console.print(text)

    def begin(self, description: str, total: int, completed: int = 0) -> None:
        """Begin a phase of `total` images; an earlier run has processed `completed` of them."""
        self._bar.remove_task(self._task)
        self._task = self._bar.add_task(description, total=total, completed=completed, detail="")

    def advance(self, images: int, description: Optional[str] = None, loss: Optional[float] = None) -> None:
        """Count `images` as done; show the description and the latest loss."""
        speed = next(task.speed for task in self._bar.tasks if task.id == self._task)
        rate = "" if speed is None else f"{speed:.0f} images/s"
        if loss is not None:
            self._loss = f"loss {loss:.4f}  "
        detail = self._loss + rate
        self._bar.update(self._task, advance=images, description=description, detail=detail)
