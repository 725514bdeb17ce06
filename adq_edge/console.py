"""What a person sees while work goes on: progress on standard error, results on standard output."""

from __future__ import annotations

import contextlib
from typing import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

console = Console(stderr=True)

_UNWRAPPED = 200


@contextlib.contextmanager
def progress_bar(description: str, total: int, unit: str) -> Iterator[Callable[[], None]]:
    """Show a progress bar and yield a function that advances it by one."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=not console.is_terminal) as progress:
        task = progress.add_task(description, total=total)
        yield lambda: progress.advance(task)


def print_table(table: Table) -> None:
    """Print a table on standard output."""
    screen = Console()
    screen.width = screen.width if screen.is_terminal else _UNWRAPPED
    screen.print(table)
