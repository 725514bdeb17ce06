"""What a person sees while work goes on: progress on standard error, results on standard output."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Callable, Iterator, Optional, Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

console = Console(stderr=True)

PROGRESS_VARIABLE = "ADQ_EDGE_PROGRESS"
"""A file that progress is written to as well, for who watches from another machine."""


@contextlib.contextmanager
def progress_bar(
    description: str, total: int, unit: str, *, shown: bool = True
) -> Iterator[Callable[[], None]]:
    """Show a progress bar, unless `shown` is False, and yield a function that advances it by one."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeRemainingColumn(),
    )
    transient = not console.is_terminal
    with Progress(*columns, console=console, transient=transient, disable=not shown) as progress:
        task = progress.add_task(description, total=total)
        done = 0

        def advance() -> None:
            nonlocal done
            done += 1
            progress.advance(task)
            tell_progress(done, total)

        yield advance


def tell_progress(done: int, total: int) -> None:
    """Write how many of how many units are done to the file that ADQ_EDGE_PROGRESS names, if it does."""
    name = os.environ.get(PROGRESS_VARIABLE)
    if name:
        scratch = Path(f"{name}.{os.getpid()}")
        with contextlib.suppress(OSError):  # nothing depends on it
            scratch.write_text(json.dumps({"done": done, "total": total}), encoding="utf-8")
            scratch.replace(name)


def say_categories(doing: str, categories: Sequence[str]) -> None:
    """Say which categories of a dataset are read where not all of them are: those of the model."""
    if categories:
        text = f"{doing} the model's categories alone: {', '.join(categories)}"
        console.print(text, highlight=False, markup=False, soft_wrap=True)


def decibels(value: Optional[float]) -> str:
    """Show a signal-to-noise ratio; None is that of two identical signals."""
    return "identical" if value is None else f"{value:.1f} dB"
