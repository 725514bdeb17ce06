"""Tables in the terminal."""

from __future__ import annotations

from typing import List

from rich.table import Table as RichTable

from adq_edge.core.console import SafeConsole
from adq_edge.core.text import printable
from adq_edge.report.table import Kind, Table

_PIPE_WIDTH = 200
"""Characters in a line where standard output is not a terminal."""


def print_table(table: Table) -> None:
    """Print a table on standard output; names in brackets are not taken for markup."""
    screen = SafeConsole()
    screen.width = screen.width if screen.is_terminal else _PIPE_WIDTH
    screen.print(_rich_table(table))


def _rich_table(table: Table) -> RichTable:
    shown = _shown_columns(table)
    rich = RichTable(
        title=printable(table.title),
        title_justify="left",
        caption="\n".join(map(printable, table.notes)),
        caption_justify="left",
        show_header=any(column.name for column in table.columns),
    )
    for number in shown:
        column = table.columns[number]
        whole = not number and column.kind is not Kind.PROSE
        rich.add_column(column.heading, justify="left" if column.kind.is_text else "right", no_wrap=whole)
    for number, texts in enumerate(table.texts):
        rich.add_row(*(texts[column] for column in shown), end_section=number in table.rules)
    return rich


def _shown_columns(table: Table) -> List[int]:
    """Return the numbers of the columns that a terminal shows: the first, and others that are not empty."""
    return [
        number
        for number, column in enumerate(table.columns)
        if column.terminal
        and (not number or not table.rows or any(row[number] is not None for row in table.rows))
    ]
