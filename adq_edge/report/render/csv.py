"""A report's tables as CSV."""

from __future__ import annotations

import csv
import io

from adq_edge.core.text import plain
from adq_edge.report.table import Cell, Sheet

# A spreadsheet takes a cell that begins like this for a formula (OWASP, "CSV Injection").
_FORMULA = ("=", "+", "-", "@")


def csv_text(sheet: Sheet) -> str:
    """Return a table as CSV (RFC 4180) with a heading line; numbers in full, nothing where unknown."""
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow([column.heading for column in sheet.columns])
    writer.writerows([[_value(cell) for cell in row] for row in sheet.rows])
    return file.getvalue()


def _value(cell: Cell) -> Cell:
    if not isinstance(cell, str):
        return cell
    text = plain(cell)
    return f"'{text}" if text.startswith(_FORMULA) else text
