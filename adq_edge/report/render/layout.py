"""Widths of a table's columns in a terminal: which columns fit side by side, and which follow below."""

from __future__ import annotations

import itertools
from typing import Iterator, List, NamedTuple, Optional, Sequence, Tuple

from rich.cells import cell_len

from adq_edge.report.table import Kind, Table

GAP = 2
"""Blanks between two columns."""
_LEAST_LABEL, _LEAST_PROSE = 12, 24


class Placed(NamedTuple):
    """A column and its width in characters."""

    number: int
    width: int


Block = Tuple[Placed, ...]
"""Columns side by side; the first ones name the rows (see `count_names`)."""


class _Size(NamedTuple):
    """The widths of a column, in characters.

    Attributes:
        number: number of the column.
        cells: the least width of the cells; texts are wrapped to it.
        full: the width at which no cell is wrapped.
        heading: the heading.
    """

    number: int
    cells: int
    full: int
    heading: str

    @property
    def least(self) -> int:
        """The width at which the cells and each word of the heading fit."""
        return self.at(len(self.heading.split()))

    def at(self, lines: int) -> int:
        """Return the width at which the heading takes at most this number of lines."""
        longest = max(map(cell_len, self.heading.split()), default=1)
        fitting = (
            width
            for width in range(longest, cell_len(self.heading))
            if _count_lines(self.heading, width) <= lines
        )
        return max(self.cells, next(fitting, max(1, cell_len(self.heading))))


def lay_out(table: Table, columns: Sequence[int], width: Optional[int]) -> Optional[List[Block]]:
    """Return the blocks that show some columns of a table; each begins with the columns that name the rows.

    A number is never wrapped or cut. Names, sentences and headings are wrapped where space is short.

    Args:
        table: the table.
        columns: numbers of the columns to show.
        width: characters in a line; None for no limit.

    Returns:
        The blocks; None if a number does not fit beside the names.
    """
    fulls = [_full_width(table, number) for number in columns]
    if width is None or _line_width(fulls) <= width:
        return [tuple(map(Placed, columns, fulls))]
    sizes = [_size(table, number, width) for number in columns[1:]]
    names = count_names(table, columns) - 1
    for least in (max(_LEAST_LABEL, 3 * width // 10), _LEAST_LABEL):
        found = [
            (label, _pack(label, sizes[:names], sizes[names:], width))
            for label in range(min(fulls[0], width), min(least, fulls[0]) - 1, -1)
        ]
        fitting = [(label, groups) for label, groups in found if groups]
        if fitting:
            label, groups = min(fitting, key=lambda pair: len(pair[1]))
            first = _Size(columns[0], label, fulls[0], "")
            return [tuple(_fill(first, group, width)) for group in groups]
    return None


def count_names(table: Table, columns: Sequence[int]) -> int:
    """Return how many of the first columns name a row: one, or as many texts as no two rows share."""
    texts = list(itertools.takewhile(lambda number: table.columns[number].kind is Kind.TEXT, columns))
    for count in range(1, len(texts) + 1):
        names = {tuple(row[number] for number in texts[:count]) for row in table.texts}
        if len(names) == len(table.texts):
            return count
    return 1


def _pack(
    label: int, names: Sequence[_Size], sizes: Sequence[_Size], width: int
) -> Optional[List[List[_Size]]]:
    """Distribute the columns in their order on as few blocks as possible; return None if one does not fit.

    Args:
        label: the width of the first column.
        names: the other columns that name a row, which each block repeats.
        sizes: the columns to distribute.
        width: characters in a line.
    """
    groups: List[List[_Size]] = [[*names]]
    for size in sizes:
        group = groups[-1]
        if len(group) > len(names) and not _fits(label, [*group, size], width):
            group = [*names]
            groups.append(group)
        group.append(size)
    return groups if all(_fits(label, group, width) for group in groups) else None


def _fits(label: int, group: Sequence[_Size], width: int) -> bool:
    return _line_width([label, *(size.least for size in group)]) <= width


def _fill(label: _Size, group: Sequence[_Size], width: int) -> Iterator[Placed]:
    """Yield the columns of a block, with headings of as few lines as fit.

    The space that is left goes to the first of the columns whose cells are wrapped.
    """
    tallest = max([1, *(len(size.heading.split()) for size in group)])
    tried = ([label.cells, *(size.at(lines) for size in group)] for lines in range(1, tallest + 1))
    widths = next(found for found in tried if _line_width(found) <= width)
    free = width - _line_width(widths)
    for size, least in zip((label, *group), widths):
        more = min(max(0, size.full - least), free)
        free -= more
        yield Placed(size.number, least + more)


def _count_lines(heading: str, width: int) -> int:
    """Return the number of lines of a heading that is wrapped at blanks."""
    lines, used = 1, -1
    for word in heading.split():
        used += 1 + cell_len(word)
        if used > width:
            lines, used = lines + 1, cell_len(word)
    return lines


def _line_width(widths: Sequence[int]) -> int:
    return sum(widths) + GAP * (len(widths) - 1)


def _full_width(table: Table, number: int) -> int:
    return max(1, cell_len(table.columns[number].heading), *_cell_widths(table, number))


def _size(table: Table, number: int, width: int) -> _Size:
    column, longest = table.columns[number], max([1, *_cell_widths(table, number)])
    least = {Kind.TEXT: max(_LEAST_LABEL, width // 4), Kind.PROSE: _LEAST_PROSE}.get(column.kind, longest)
    return _Size(number, min(longest, least), longest, column.heading)


def _cell_widths(table: Table, number: int) -> List[int]:
    return [cell_len(texts[number]) for texts in table.texts]
