"""A progress bar that uses no CPU time while an engine is timed."""

from __future__ import annotations

import contextlib
from typing import Callable, Iterator

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from adq_edge.core.console import console, write_progress


@contextlib.contextmanager
def quiet_progress(description: str, total: int, shown: bool) -> Iterator[Callable[[], None]]:
    """Show a bar that is drawn only when advanced, and yield the function that advances it by one.

    `total` may be an estimate: the bar is full at the end in any case. `console.progress_bar` is not used,
    because its thread draws ten times per second, which affects the p99 latency of a small machine.
    """
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeRemainingColumn())
    bar = Progress(
        *columns,
        console=console,
        auto_refresh=False,
        transient=not console.is_terminal,
        disable=not shown,
    )
    with bar:
        task = bar.add_task(description, total=total)
        bar.refresh()
        done = 0

        def advance() -> None:
            nonlocal done
            done += 1
            bar.advance(task)
            bar.refresh()
            write_progress(min(done, total), total)

        yield advance
        bar.update(task, completed=total)
        bar.refresh()
