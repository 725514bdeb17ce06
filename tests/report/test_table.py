"""One table in its four renderings."""

from __future__ import annotations

import csv
import io

import pytest

from adq_edge.benchmark.records import Interval
from adq_edge.report.render.csv import csv_text
from adq_edge.report.render.markdown import markdown
from adq_edge.report.render.terminal import print_tables
from adq_edge.report.table import Column, Kind, Table, part, tabulate, text

COLUMNS = (
    *(text("engine"), Column("p50", "ms", ".2f"), Column("p50", "ms", ".2f", Kind.INTERVAL)),
    *(Column("rounds", terminal=False), Column("swap", "MB", ".1f")),
)
ROWS = (("[a]|b", 12.345, Interval(12.0, 12.789), 64, None), ("=1+1", 7, None, 32, None))
TABLE = Table("Latency", COLUMNS, ROWS, ("engine call only",), key="latency")


def test_csv_has_unrounded_numbers_two_columns_for_an_interval_and_no_formulas():
    headings, first, second = csv.reader(io.StringIO(csv_text(TABLE)))
    assert headings == ["engine", "p50, ms", "p50 low, ms", "p50 high, ms", "rounds", "swap, MB"]
    assert first == ["[a]|b", "12.345", "12.0", "12.789", "64", ""]
    assert second == ["'=1+1", "7", "", "", "32", ""]


def test_markdown_escapes_names_and_aligns_numbers_right():
    title, heading, table, notes = markdown("Title", [], [TABLE]).split("\n\n")
    assert (title, heading, notes) == ("# Title", "## Latency", "- engine call only\n")
    assert table.splitlines() == [
        "| engine | p50, ms | 95 % interval of p50, ms | rounds | swap, MB |",
        "| :-- | --: | --: | --: | --: |",
        r"| \[a\]\|b | 12.35 | 12.00 to 12.79 | 64 | - |",
        "| =1+1 | 7.00 | - | 32 | - |",
    ]


def test_terminal_omits_details_and_empty_columns_and_interprets_no_markup(capsys: pytest.CaptureFixture):
    print_tables([TABLE])
    shown = capsys.readouterr().out
    for present in ("Latency", "[a]|b", "12.00 to 12.79", "engine call only"):
        assert present in shown
    for absent in ("rounds", "swap"):
        assert absent not in shown


def test_fields_of_a_missing_part_are_empty():
    fields = [
        (text("name"), lambda item: item[0]),
        *part(lambda item: item[1], [(Column("x"), lambda x: 2 * x)]),
    ]
    assert tabulate("Parts", fields, [("a", 1), ("b", None)]).rows == (("a", 2), ("b", None))
