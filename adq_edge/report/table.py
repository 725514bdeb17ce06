"""The table model: each table that adq-edge prints or writes is a `Table`, shown by one of four renderers."""

from __future__ import annotations

import dataclasses
import enum
from typing import Callable, Iterable, List, Optional, Sequence, Tuple, TypeVar, Union

from adq_edge.benchmark.records import Interval
from adq_edge.core.text import printable

Item = TypeVar("Item")
Part = TypeVar("Part")
Value = Union[str, int, float, Interval, None]
"""The content of a cell; None where nothing is known."""


_LONGEST_NUMBER = 16
"""Longer numbers are shown with an exponent."""


class Kind(enum.Enum):
    """What the cells of a column contain: it decides alignment, line breaks and the CSV columns."""

    NUMBER = "number"
    INTERVAL = "interval"
    """A 95 % confidence interval: one column to read, two (low and high) in CSV."""
    TEXT = "text"
    PROSE = "prose"
    """Text that may be a sentence."""

    @property
    def is_text(self) -> bool:
        """True for the kinds that are aligned to the left."""
        return self in (Kind.TEXT, Kind.PROSE)


@dataclasses.dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        name: the heading without the unit.
        unit: unit of the numbers.
        spec: format specification of the numbers, for example `.2f`.
        kind: what the cells contain.
        terminal: False for details that a terminal has no room for.
    """

    name: str
    unit: str = ""
    spec: str = ""
    kind: Kind = Kind.NUMBER
    terminal: bool = True

    @property
    def heading(self) -> str:
        """Name and unit."""
        return self._with_unit(f"95 % interval of {self.name}" if self.kind is Kind.INTERVAL else self.name)

    @property
    def csv_headings(self) -> Sequence[str]:
        """The headings of this column in CSV."""
        if self.kind is not Kind.INTERVAL:
            return [self.heading]
        return [self._with_unit(f"{self.name} {end}") for end in ("low", "high")]

    def show(self, value: Value) -> str:
        """Return the text of a cell; a dash where nothing is known."""
        if value is None:
            return "-"
        if isinstance(value, Interval):
            return f"{self.show(value.low)} to {self.show(value.high)}"
        if isinstance(value, str):
            return printable(value)
        shown = format(value, self.spec)
        return shown if len(shown) <= _LONGEST_NUMBER else format(value, ".6g")

    def _with_unit(self, name: str) -> str:
        return f"{name}, {self.unit}" if self.unit else name


@dataclasses.dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        title: what it shows.
        columns: the columns; the first names the row.
        rows: a value for each column.
        notes: what a reader must know, a paragraph each.
        rules: numbers of the rows that a terminal draws a line below.
        key: name in file names and links; empty for a table that only a terminal shows.
    """

    title: str
    columns: Tuple[Column, ...]
    rows: Tuple[Tuple[Value, ...], ...]
    notes: Tuple[str, ...] = ()
    rules: Tuple[int, ...] = ()
    key: str = ""

    @property
    def texts(self) -> Tuple[Tuple[str, ...], ...]:
        """The text of each cell."""
        return tuple(
            tuple(column.show(value) for column, value in zip(self.columns, row)) for row in self.rows
        )


Field = Tuple[Column, Callable[[Item], Value]]
"""A column and the function that reads its value from an item."""


def tabulate(
    title: str,
    fields: Sequence[Field[Item]],
    items: Iterable[Item],
    notes: Sequence[str] = (),
    *,
    rules: Sequence[int] = (),
    key: str = "",
) -> Table:
    """Return a table with one row for each item (the other arguments: see `Table`)."""
    rows = tuple(tuple(read(item) for _, read in fields) for item in items)
    return Table(title, tuple(column for column, _ in fields), rows, tuple(notes), tuple(rules), key)


def part(read: Callable[[Item], Optional[Part]], fields: Iterable[Field[Part]]) -> List[Field[Item]]:
    """Return fields that are read from a part of an item, and are empty where the item lacks this part."""

    def of_part(read_value: Callable[[Part], Value]) -> Callable[[Item], Value]:
        def value(item: Item) -> Value:
            found = read(item)
            return None if found is None else read_value(found)

        return value

    return [(column, of_part(read_value)) for column, read_value in fields]


def text(name: str, *, terminal: bool = True) -> Column:
    """Return a column of short texts."""
    return Column(name, kind=Kind.TEXT, terminal=terminal)


def prose(name: str, *, terminal: bool = True) -> Column:
    """Return a column of texts that may be sentences."""
    return Column(name, kind=Kind.PROSE, terminal=terminal)
