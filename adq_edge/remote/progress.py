"""Shows the progress of boards, one row per board."""

from __future__ import annotations

import contextlib
import sys
from typing import Callable, Dict, Iterator, Sequence

from rich.progress import BarColumn, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn

from adq_edge.core.console import WHOLE, WRAPPED, PlainProgress, console
from adq_edge.remote.board import Progress


class BoardsDisplay:
    """Progress rows on standard error; without a terminal, one line per step of each board."""

    def __init__(self, hosts: Sequence[str], *, shown: bool) -> None:
        self._live = console.is_terminal
        self._shown = shown
        self._last_phase: Dict[str, str] = {}
        self._bars = PlainProgress(
            TextColumn("{task.fields[host]}", markup=False, table_column=WRAPPED),
            BarColumn(bar_width=24),
            TaskProgressColumn(table_column=WHOLE),
            TimeElapsedColumn(table_column=WHOLE),
            TextColumn("{task.description}", markup=False, table_column=WRAPPED),
            console=console,
            disable=not (shown and self._live),
        )
        self._rows: Dict[str, TaskID] = {
            host: self._bars.add_task("waiting", total=None, host=host) for host in hosts
        }

    def __enter__(self) -> BoardsDisplay:
        self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bars.stop()

    def reporter(self, host: str) -> Callable[[Progress], None]:
        """Return the function that shows the progress of a board, for use in any thread."""
        return lambda progress: self._show(host, progress)

    def finish(self, host: str, result: str) -> None:
        """Show that a board has finished, with its result."""
        self._show(host, Progress(result, 1, 1))
        self._bars.stop_task(self._rows[host])

    @contextlib.contextmanager
    def hidden_for_questions(self) -> Iterator[bool]:
        """Yield True if a user can be asked for a password; the rows are hidden in this block."""
        interactive = sys.stdin.isatty() and console.is_terminal
        if interactive:
            self._bars.stop()
        try:
            yield interactive
        finally:
            if interactive:
                self._bars.start()

    def _show(self, host: str, progress: Progress) -> None:
        total = progress.total or None
        self._bars.update(self._rows[host], description=progress.phase, completed=progress.done, total=total)
        if self._shown and not self._live and self._last_phase.get(host) != progress.phase:
            self._last_phase[host] = progress.phase
            console.print(f"{host}: {progress.phase}", highlight=False, markup=False, soft_wrap=True)
