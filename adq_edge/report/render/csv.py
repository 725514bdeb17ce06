"""A table as CSV."""

from __future__ import annotations

import csv
import io
from typing import Iterator

from adq_edge.benchmark.records import Interval
from adq_edge.core.text import printable
from adq_edge.report.table import Column, Kind, Table, Value

# A spreadsheet takes a cell that begins like this for a formula (OWASP, "CSV Injection").
_FORMULA = ("=", "+", "-", "@")


def csv_text(table: Table) -> str:
    """Return a table as CSV (RFC 4180) with one heading line; numbers unrounded, empty where unknown."""
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow([heading for column in table.columns for heading in column.csv_headings])
    for row in table.rows:
        writer.writerow([cell for pair in zip(table.columns, row) for cell in _cells(*pair)])
    return file.getvalue()


def _cells(column: Column, value: Value) -> Iterator[Value]:
    if isinstance(value, Interval):
        yield from (value.low, value.high)
    elif column.kind is Kind.INTERVAL:
        yield from (None, None)
    elif isinstance(value, str):
        shown = printable(value)
        yield f"'{shown}" if shown.startswith(_FORMULA) else shown
    else:
        yield value
