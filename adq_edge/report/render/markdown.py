"""A report's tables as Markdown."""

from __future__ import annotations

from typing import Iterator, Sequence

from adq_edge.core.text import escape_markdown
from adq_edge.report.table import Sheet


def markdown(title: str, lines: Sequence[str], sheets: Sequence[Sheet]) -> str:
    """Return a document: a title, its most important lines as a list, and the tables."""
    parts = [f"# {escape_markdown(title)}", "\n".join(f"- {escape_markdown(line)}" for line in lines)]
    parts += ["\n".join(_section(sheet)) for sheet in sheets]
    return "\n\n".join(part for part in parts if part) + "\n"


def _section(sheet: Sheet) -> Iterator[str]:
    yield f"## {escape_markdown(sheet.title)}"
    yield ""
    yield _row([escape_markdown(column.heading) for column in sheet.columns])
    yield _row([":--" if column.text else "--:" for column in sheet.columns])
    for row in sheet.rows:
        yield _row([escape_markdown(column.show(cell)) for column, cell in zip(sheet.columns, row)])
    if sheet.note:
        yield ""
        yield escape_markdown(sheet.note)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
