"""Tables as Markdown."""

from __future__ import annotations

from typing import Iterable, Iterator, Sequence

from adq_edge.core.text import escape_markdown
from adq_edge.report.table import Table


def markdown(title: str, lines: Sequence[str], tables: Iterable[Table]) -> str:
    """Return a document: a title, its most important lines as a list, and the tables."""
    parts = [
        f"# {escape_markdown(title)}",
        _list(lines),
        *(part for table in tables for part in _parts(table)),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _parts(table: Table) -> Iterator[str]:
    yield f"## {escape_markdown(table.title)}"
    marks = [":--" if column.kind.is_text else "--:" for column in table.columns]
    rows = [[column.heading for column in table.columns], *table.texts]
    headings, *body = ([escape_markdown(text) for text in row] for row in rows)
    yield "\n".join(f"| {' | '.join(cells)} |" for cells in (headings, marks, *body))
    yield _list(table.notes)


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {escape_markdown(line)}" for line in lines)
