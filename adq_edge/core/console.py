"""Output for the user: progress and messages on standard error, tables on standard output.

Names from files and texts from other machines may hold terminal escapes. `SafeConsole` escapes them, as the
streams of `guard_output` do, so that no caller has to.
"""

from __future__ import annotations

import contextlib
import enum
import importlib.util
import json
import os
import sys
import time
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator, Optional

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.segment import Segment
from rich.table import Column
from rich.text import Text

from adq_edge.core.text import printable_lines


class Verbosity(enum.Enum):
    """How much is printed on standard error."""

    QUIET = "quiet"
    """Errors only."""
    NORMAL = "normal"
    """Progress and notes too."""
    VERBOSE = "verbose"
    """Durations, memory, library warnings and the causes of errors too."""


_current = Verbosity.NORMAL


class SafeConsole(Console):
    """A rich console that shows texts as they are: without markup, and with control characters escaped.

    On standard error it prints nothing if this process is quiet.
    """

    def __init__(self, *, stderr: bool = False, quiet: bool = False, **options: Any) -> None:
        quiet = quiet or (stderr and _current is Verbosity.QUIET)
        if "ipykernel" in sys.modules and importlib.util.find_spec("ipywidgets") is None:
            # Without ipywidgets, rich prints a warning or a line for each step instead of a bar.
            options.update(force_jupyter=False, force_terminal=False)
        super().__init__(markup=False, emoji=False, highlight=False, stderr=stderr, quiet=quiet, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Return a text as rich prints it; escaped before rich measures it."""
        return super().render_str(printable_lines(text), **options)

    def render(
        self, renderable: RenderableType, options: Optional[ConsoleOptions] = None
    ) -> Iterable[Segment]:
        """Yield the parts of what is printed; rich's own control codes are parts of another kind."""
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield Segment(printable_lines(segment.text), segment.style)


console = SafeConsole(stderr=True)


def set_verbosity(verbosity: Verbosity) -> None:
    """Set how much this process prints on standard error."""
    global _current
    _current = verbosity
    console.quiet = verbosity is Verbosity.QUIET


def is_verbose() -> bool:
    """Return True if details are to be printed."""
    return _current is Verbosity.VERBOSE


def print_detail(text: str) -> None:
    """Print a line on standard error, if details are to be printed."""
    if is_verbose():
        console.print(text, soft_wrap=True)


PROGRESS_VARIABLE = "ADQ_EDGE_PROGRESS"
"""Environment variable with a file for the progress, which `bench --host` shows on another machine."""


WHOLE = Column(no_wrap=True)
"""A column of a progress display that is never cut: its figures."""
WRAPPED = Column(no_wrap=False, overflow="fold")
"""A column of a progress display that is wrapped where the terminal is narrow: its texts."""


_BAR = (8, 40)
"""Least and greatest width of a progress bar."""
_FIGURES = 32
"""Space for the figures beside a progress bar."""


class PlainProgress(Progress):
    """A rich progress display that leaves the standard streams as they are.

    Rich's own stream over the safe ones of `guard_output` would make them escape the codes of the display.
    """

    def __init__(self, *columns: ProgressColumn, **options: Any) -> None:
        super().__init__(*columns, redirect_stdout=False, redirect_stderr=False, **options)


@contextlib.contextmanager
def progress_bar(
    description: str, total: int, unit: str, *, shown: bool = True, auto_refresh: bool = True
) -> Iterator[Callable[[], None]]:
    """Show a progress bar and yield a function that advances it by one.

    Args:
        description: the text before the bar.
        total: number of units; the bar of an estimate is full at the end in any case.
        unit: name of the units.
        shown: whether to show the bar.
        auto_refresh: whether a thread draws the bar ten times per second. That affects the p99 latency of a
            small machine; a benchmark draws only when the bar advances.
    """
    columns = (
        TextColumn("{task.description}", markup=False, table_column=WRAPPED),
        BarColumn(max(_BAR[0], min(_BAR[1], console.width - cell_len(description) - _FIGURES))),
        MofNCompleteColumn(table_column=WHOLE),
        TextColumn(unit, markup=False, table_column=WHOLE),
        TimeRemainingColumn(table_column=WHOLE),
    )
    hidden = not shown or console.quiet or not console.is_terminal
    started = time.monotonic()
    with PlainProgress(*columns, console=console, disable=hidden, auto_refresh=auto_refresh) as progress:
        task = progress.add_task(description, total=total)
        done = 0

        def advance() -> None:
            nonlocal done
            done += 1
            progress.update(task, advance=1, refresh=not auto_refresh)
            write_progress(min(done, total), total)

        yield advance
        progress.update(task, completed=total)
    print_detail(f"{description}: {done} {unit} in {time.monotonic() - started:.1f} s")


@contextlib.contextmanager
def pulsing_bar(description: str) -> Iterator[None]:
    """Show a moving bar and the elapsed time during work of unknown length; it disappears at the end."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    hidden = console.quiet or not console.is_terminal
    with PlainProgress(*columns, console=console, disable=hidden, transient=True) as progress:
        progress.add_task(description, total=None)
        yield


def write_progress(done: int, total: int) -> None:
    """Write the numbers of completed and total units to the file in ADQ_EDGE_PROGRESS, if it is set."""
    name = os.environ.get(PROGRESS_VARIABLE)
    if name:
        scratch = Path(f"{name}.{os.getpid()}")
        with contextlib.suppress(OSError):  # the work itself does not need the file
            scratch.write_text(json.dumps({"done": done, "total": total}), encoding="utf-8")
            scratch.replace(name)
