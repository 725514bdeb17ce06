"""A report's tables as Markdown."""

from __future__ import annotations

import re
from typing import Iterator, Sequence

from adq_edge.report.sheet import Sheet
from adq_edge.report.words import plain

# What GitHub's Markdown could take for markup inside a cell; letters and digits are never among it.
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~&!$@])")


def markdown(title: str, lines: Sequence[str], sheets: Sequence[Sheet]) -> str:
    """Return a document: a title, its most important lines as a list, and the tables."""
    parts = [f"# {escape(title)}", "\n".join(f"- {escape(line)}" for line in lines)]
    parts += ["\n".join(_section(sheet)) for sheet in sheets]
    return "\n\n".join(part for part in parts if part) + "\n"


def escape(text: str) -> str:
    """Return a text that Markdown shows as it is, on one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(plain(text).split()))


def _section(sheet: Sheet) -> Iterator[str]:
    yield f"## {escape(sheet.title)}"
    yield ""
    yield _row([escape(column.heading) for column in sheet.columns])
    yield _row([":--" if column.text else "--:" for column in sheet.columns])
    for row in sheet.rows:
        yield _row([escape(column.show(cell)) for column, cell in zip(sheet.columns, row)])
    if sheet.note:
        yield ""
        yield escape(sheet.note)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
