"""Excerpts of the tables in benchmarks/published/."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import List, Optional, Sequence, Tuple, Union

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks" / "published"
_CELL = re.compile(r"(?<!\\)\|")
_MACHINE = re.compile(r"^\d{4}-\d\d-\d\d, (?:[^()\n]|\(R\))+ \([^)\n]*\)", re.MULTILINE)


class ExcerptError(Exception):
    """A page asks for a table, column or row that the published file does not have."""


@dataclasses.dataclass(frozen=True)
class PublishedTable:
    """A table of a published file: its headings and its rows of cells."""

    headings: Tuple[str, ...]
    rows: Tuple[Tuple[str, ...], ...]

    def excerpt(
        self,
        columns: Optional[Sequence[Union[str, Tuple[str, str]]]] = None,
        rows: Optional[Sequence[str]] = None,
    ) -> str:
        """Return columns and rows of the table as Markdown.

        Args:
            columns: headings, or pairs of heading and shown heading; all by default. `heading#2` is the
                second column of that heading.
            rows: beginnings of rows, with ` | ` between cells, in the order to show; all by default. Each
                selects every row that begins so.

        Raises:
            ExcerptError: no such column or row.
        """
        pairs = [(name, name) if isinstance(name, str) else name for name in columns or self.headings]
        numbers = [self._column(name) for name, _ in pairs]
        chosen = list(self.rows) if rows is None else [row for start in rows for row in self._rows(start)]
        lines = [[shown for _, shown in pairs], ["---"] * len(pairs)]
        lines += [[row[number] for number in numbers] for row in chosen]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    def _column(self, name: str) -> int:
        heading, _, which = name.partition("#")
        numbers = [number for number, other in enumerate(self.headings) if other == heading]
        if len(numbers) < int(which or 1):
            raise ExcerptError(f"no column {name!r} in {self.headings}")
        return numbers[int(which or 1) - 1]

    def _rows(self, start: str) -> List[Tuple[str, ...]]:
        found = [row for row in self.rows if f"{' | '.join(row)} |".startswith(start)]
        if not found:
            raise ExcerptError(f"no row begins with {start!r}")
        return found


def tables(text: str) -> List[PublishedTable]:
    """Return the tables of a Markdown text."""
    found: List[List[Tuple[str, ...]]] = []
    before = ""
    for line in text.splitlines():
        if line.startswith("|"):
            if not before.startswith("|"):
                found.append([])
            found[-1].append(tuple(cell.strip() for cell in _CELL.split(line.strip())[1:-1]))
        before = line
    return [PublishedTable(rows[0], tuple(rows[2:])) for rows in found]


def table(
    name: str,
    columns: Optional[Sequence[Union[str, Tuple[str, str]]]] = None,
    rows: Optional[Sequence[str]] = None,
    number: int = 0,
) -> str:
    """Return an excerpt of a table of `published/NAME.md`; arguments as of `PublishedTable.excerpt`."""
    return tables(_text(name))[number].excerpt(columns, rows)


def origin(name: str) -> str:
    """Return a link to a published file, with the date and machine of its run if the file has them."""
    link = f"[Whole table](../benchmarks/published/{name}.md)"
    machine = _MACHINE.search(_text(name))
    return f"{link}." if machine is None else f"{link}: {machine.group()}."


def note(name: str) -> str:
    """Return the note of `published/NAME.json`."""
    return str(json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))["note"])


def figure(name: str, row: str, column: str, number: int = 0) -> str:
    """Return one cell of a table; the row is the first that begins with `row`."""
    return tables(_text(name))[number].excerpt([column], [row]).splitlines()[2].strip("| ")


def _text(name: str) -> str:
    return (FOLDER / f"{name}.md").read_text(encoding="utf-8")
