"""Tables in the terminal: whole at every width, and one line per row where output goes to a file or pipe."""

from __future__ import annotations

import dataclasses
import io
import re
import shutil
import sys
from typing import Iterable, Iterator, List, Optional, Sequence, Set

from rich import box
from rich.cells import cell_len
from rich.console import JustifyMethod
from rich.table import Table as RichTable
from rich.text import Text

from adq_edge.core.console import SafeConsole
from adq_edge.core.text import printable
from adq_edge.report.render.layout import GAP, Block, count_names, lay_out
from adq_edge.report.table import Column, Kind, Table

_UNLIMITED, _PAGE = 1_000_000, 80
_EMPTY = ("", "-")
_LINE = "\u2500"
_ASCII = {ord(_LINE): "-"}
_WORDS = re.compile(r"\S+\s*")
_PIECES = re.compile(r"(?:[^-_/:.]|\.(?=\d))+[-_/:.]*|[-_/:.]+")
"""Parts of a name that is wider than its column; a decimal point does not end a part."""


def print_tables(tables: Sequence[Table]) -> None:
    """Print tables on standard output, as wide as the terminal.

    In a file or pipe, a table with figures has one line per row of any width, and a table of sentences is
    wrapped. A note of several tables is printed once.
    """
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    texts = [table_text(table, width or _page_width(table)) for table in _without_repeated_notes(tables)]
    print("\n\n".join(text if _has_line(sys.stdout.encoding) else text.translate(_ASCII) for text in texts))


def _page_width(table: Table) -> Optional[int]:
    """Return the width of a table in a file or pipe; None for no limit."""
    kinds = {column.kind for column in table.columns}
    return _PAGE if kinds == {Kind.TEXT, Kind.PROSE} else None


def _without_repeated_notes(tables: Sequence[Table]) -> Iterator[Table]:
    shown: Set[str] = set()
    for table in tables:
        notes = tuple(note for note in dict.fromkeys(table.notes) if note not in shown)
        shown.update(notes)
        yield dataclasses.replace(table, notes=notes)


def _has_line(encoding: Optional[str]) -> bool:
    """Return True if an encoding has the character of a table's lines."""
    try:
        _LINE.encode(encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def table_text(table: Table, width: Optional[int]) -> str:
    """Return a table as text: title, columns and notes; names in brackets are not taken for markup.

    Columns that do not fit side by side follow in a second block of the same rows. Where not even one fits,
    each row is a list of its figures.

    Args:
        table: the table.
        width: characters in a line; None for no limit.
    """
    columns = _shown_columns(table)
    blocks = lay_out(table, columns, width)
    body: Iterable[str] = ["none"]
    if table.rows:
        body = _row_lists(table, columns, width) if blocks is None else _grids(table, blocks, columns)
    notes = (line for note in table.notes for line in _wrap(note, width))
    return "\n".join([*_wrap(table.title, width), *body, *notes])


def _wrap(text: str, width: Optional[int]) -> List[str]:
    shown = printable(text)
    if width is None:
        return [shown]
    return [line.plain.rstrip() for line in Text(shown).wrap(SafeConsole(), width, overflow="fold")]


def _grids(table: Table, blocks: Sequence[Block], columns: Sequence[int]) -> Iterator[str]:
    """Yield each block with the rows that have a figure in it; the first also has rows without any."""
    names = count_names(table, columns)
    filled = [set(_filled_rows(table, [number for number, _ in block[names:]])) for block in blocks]
    filled[0] |= set(range(len(table.rows))).difference(*filled)
    for place, (block, rows) in enumerate(zip(blocks, filled)):
        if rows:
            yield ("\n" if place else "") + _grid(table, block, sorted(rows))


def _filled_rows(table: Table, figures: Sequence[int]) -> Iterator[int]:
    """Yield the numbers of the rows that have a figure in some columns."""
    for row, texts in enumerate(table.texts):
        if any(texts[number] not in _EMPTY for number in figures):
            yield row


def _grid(table: Table, block: Block, rows: Sequence[int]) -> str:
    rich = RichTable(
        box=box.HORIZONTALS,
        show_edge=False,
        show_header=any(column.name for column in table.columns),
        pad_edge=False,
        padding=(0, GAP - 1, 0, 0),
    )
    for number, width in block:
        column = table.columns[number]
        justify: JustifyMethod = "left" if column.kind.is_text else "right"
        rich.add_column(column.heading, justify=justify, width=width, overflow="fold")
    for row, following in zip(rows, [*rows[1:], len(table.rows)]):
        cells = [
            _break_lines(table.texts[row][number], width, table.columns[number]) for number, width in block
        ]
        rich.add_row(*cells, end_section=any(row <= rule < following for rule in table.rules))
    drawn = io.StringIO()
    SafeConsole(file=drawn, width=_UNLIMITED, color_system=None).print(rich)
    return "\n".join(line.rstrip() for line in drawn.getvalue().splitlines())


def _break_lines(text: str, width: int, column: Column) -> str:
    """Return a text with line breaks at blanks, and at the separators of names wider than the column."""
    if column.kind is not Kind.TEXT or cell_len(text) <= width:
        return text
    words = (
        [word] if cell_len(word.rstrip()) <= width else _PIECES.findall(word) for word in _WORDS.findall(text)
    )
    lines = [""]
    for piece in (piece for pieces in words for piece in pieces):
        if lines[-1] and cell_len(lines[-1] + piece.rstrip()) > width:
            lines.append("")
        lines[-1] += piece
    return "\n".join(lines)


def _row_lists(table: Table, columns: Sequence[int], width: Optional[int]) -> Iterator[str]:
    """Yield the name of each row, and below it each heading with its figure."""
    first, *others = columns
    for texts in table.texts:
        yield from _wrap(texts[first], width)
        for number in others:
            yield from _wrap(f"{table.columns[number].heading or '-'}: {texts[number]}", width)


def _shown_columns(table: Table) -> List[int]:
    """Return the numbers of the columns that a terminal shows: the first, and others that are not empty."""
    return [
        number
        for number, column in enumerate(table.columns)
        if column.terminal
        and (not number or not table.rows or any(row[number] is not None for row in table.rows))
    ]
