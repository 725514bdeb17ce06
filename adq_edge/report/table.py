"""A table that HTML, Markdown and CSV are made from alike."""

from __future__ import annotations

import dataclasses
from typing import Iterable, Optional, Tuple, Union

from adq_edge.core.text import plain

Cell = Union[str, int, float, None]


@dataclasses.dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        name: its heading.
        unit: of its numbers.
        digits: decimals that are shown; None for a column of text, or of whole numbers.
        text: whether its cells are text.
        long: whether that text may be a sentence.
    """

    name: str
    unit: str = ""
    digits: Optional[int] = None
    text: bool = False
    long: bool = False

    @property
    def heading(self) -> str:
        """Name and unit."""
        return f"{self.name}, {self.unit}" if self.unit else self.name

    def show(self, cell: Cell) -> str:
        """Return a cell as a person reads it; a dash for what is not known."""
        if cell is None:
            return "-"
        if isinstance(cell, str):
            return plain(cell)
        return str(cell) if self.digits is None else f"{cell:.{self.digits}f}"


@dataclasses.dataclass(frozen=True)
class Sheet:
    """A table.

    Attributes:
        key: its name in file names and links.
        title: what it shows.
        columns: the columns; the first names the row.
        rows: a cell per column.
        note: what must be known to read it.
    """

    key: str
    title: str
    columns: Tuple[Column, ...]
    rows: Tuple[Tuple[Cell, ...], ...]
    note: str = ""


def text(name: str, long: bool = False) -> Column:
    """Return a column of text."""
    return Column(name, text=True, long=long)


ENGINE = (text("engine"), text("device"), text("precision"))
"""What names an engine in the tables of all devices."""


def sheet(
    key: str, title: str, columns: Iterable[Column], rows: Iterable[Iterable[Cell]], note: str = ""
) -> Sheet:
    """Make a table."""
    return Sheet(key, title, tuple(columns), tuple(tuple(row) for row in rows), note)
