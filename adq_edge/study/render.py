"""A study on the screen and in a Markdown file."""

from __future__ import annotations

from pathlib import Path
from typing import List, Sequence

from rich.table import Table
from rich.text import Text

from adq_edge.core.files import write_bytes
from adq_edge.core.text import escape_markdown
from adq_edge.study.captions import notes
from adq_edge.study.results import StudyResult
from adq_edge.study.tables import StudyTable, study_tables

_TEXT_COLUMNS = (
    "method",
    "training",
    "device",
    "source",
    "calibrator",
    "precision",
    "category",
    "state",
    "why",
)


def screen_tables(study: StudyResult) -> List[Table]:
    """Return the tables for the screen; the last one says what holds for all."""
    remarks = Table(title="Notes", title_justify="left", show_header=False, box=None)
    for note in notes(study):
        remarks.add_row(Text(note))
    return [*(_screen_table(table) for table in study_tables(study)), remarks]


def _screen_table(table: StudyTable) -> Table:
    title, caption = Text(table.title), Text(table.caption)  # as texts: brackets are no markup
    shown = Table(title=title, title_justify="left", caption=caption, caption_justify="left")
    for heading in table.headings:
        shown.add_column(heading, justify="left" if heading in _TEXT_COLUMNS else "right")
    for row in table.rows:
        shown.add_row(*(Text(cell) for cell in row))
    return shown


def write_markdown(path: Path, study: StudyResult) -> None:
    """Write the tables as a Markdown file, atomically.

    Raises:
        StorageError: the folder cannot be written to or is full.
    """
    quick = " (quick, not to be quoted)" if study.config.quick else ""
    done, total = len(study.results), len(study.cells)
    parts = [f"# adq-edge study{quick}", f"{study.created}: {done} of {total} cells."]
    parts.extend(_markdown_table(table) for table in study_tables(study))
    parts.append("\n".join(["## Notes", "", *(f"- {escape_markdown(note)}" for note in notes(study))]))
    write_bytes(path, ("\n\n".join(parts) + "\n").encode("utf-8"))


def _markdown_table(table: StudyTable) -> str:
    text = ["---" if heading in _TEXT_COLUMNS else "---:" for heading in table.headings]
    lines = [_line(table.headings), _line(text), *(_line(row) for row in table.rows)]
    caption = "\n".join(f"- {escape_markdown(line)}" for line in table.caption.splitlines())
    return "\n\n".join(part for part in (f"## {table.title}", "\n".join(lines), caption) if part)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(escape_markdown(cell) for cell in cells)} |"
