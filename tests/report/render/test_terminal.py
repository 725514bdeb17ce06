"""Tables in a terminal: every figure is readable at every width, and nothing is cut in a pipe."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import List, Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from adq_edge.artifacts.bundle import FileReference
from adq_edge.evaluation.analysis import Analysis, Calibration, LayerAnalysis
from adq_edge.report.model import entries_of
from adq_edge.report.render.terminal import table_text
from adq_edge.report.table import Column, Kind, Table, prose, text
from adq_edge.report.tables.analysis import layer_table
from adq_edge.report.tables.bench import bench_tables
from adq_edge.report.tables.comparison import agreement_table, auroc_table, decisions_tables
from adq_edge.report.tables.decisions import decision_tables
from adq_edge.report.tables.headline import summary_table
from adq_edge.report.tables.quality import evaluation_table
from factories import results as make
from factories.comparison import CATEGORIES, comparison

NAMES = [
    f"stfpm-unified-parts-r18-{end}" for end in ("fp32", "int8-lp", "int8-entropy", "int8-percentile-99.99")
]
HASH = "0" * 64
WORD = re.compile(r"[^\W_]+")
WIDTHS = (60, 80, 200, None)


def check_readable(table: Table, width: Optional[int]) -> str:
    """Check that no line is too long, no figure is cut and each name is there; return the text."""
    shown = table_text(table, width)
    lines = shown.splitlines()
    assert width is None or max(map(cell_len, lines)) <= width
    assert "…" not in shown
    for row in table.texts:
        for column, cell in zip(table.columns, row):
            if column.terminal and cell != "-" and column.kind in (Kind.NUMBER, Kind.INTERVAL):
                assert cell in shown, (column.heading, cell)
            if column.terminal and column is not table.columns[0]:
                assert all(number in shown for number in re.findall(r"-?\d+\.\d+", cell)), cell
    for row in table.texts:
        assert width is not None or row[0] in shown
        assert set(WORD.findall(row[0])) <= set(WORD.findall(shown)), row[0]
    return shown


def bench_output() -> List[Table]:
    engines = [
        make.engine(
            "fp32" if name.endswith("fp32") else "int8",
            name=name,
            board=make.recording(5.0),
            baseline=None if name.endswith("fp32") else NAMES[0],
        )
        for name in NAMES
    ]
    return bench_tables(make.bench_report(engines, quick=True))


def analysis() -> Analysis:
    layers = tuple(
        LayerAnalysis(
            layer=f"student/layer{stage}/layer{stage}.{block}/conv{conv}/very_long_name/Conv",
            operator="Conv",
            quantized=True,
            input_ranges=((-1.234, 5.678),) * 2,
            output_range=(-12.3, 45.6),
            clipped=0.00123,
            output_snr_db=31.2,
            map_snr_db=20.0 + stage,
            score_bias=-0.0123,
        )
        for stage in (1, 2, 3)
        for block in (0, 1)
        for conv in (1, 2)
    )
    calibration = Calibration("lp", "images", 300, FileReference("ranges.json", HASH))
    model = FileReference("model.onnx", HASH)
    return Analysis(
        "bundles/stfpm-unified-parts-r18", model, "x86", calibration, 16, "pasted defects", 15.2, 0.0123,
        layers, "plot.png", make.PC,
    )  # fmt: skip


def every_table() -> List[Table]:
    item = make.engine("int8", name=NAMES[1])
    evaluation = make.evaluation(item)
    renamed = [dataclasses.replace(c, name=n) for c, n in zip(evaluation.categories, CATEGORIES)]
    evaluation = dataclasses.replace(evaluation, categories=tuple(renamed))
    compared = comparison(names=NAMES[:2])
    entries = entries_of(make.bench_report([item]), "here")
    return [
        *bench_output(),
        layer_table(analysis()),
        auroc_table(compared),
        agreement_table(compared),
        *decisions_tables(compared),
        *decision_tables(evaluation),
        evaluation_table(evaluation),
        summary_table(entries, "quick run"),
    ]


@pytest.mark.parametrize("width", WIDTHS, ids=str)
def test_tables_of_each_verb_are_whole_at_every_width(width: Optional[int]):
    for table in every_table():
        check_readable(table, width)


def test_bench_shows_the_key_figures_of_long_names_side_by_side_at_80_columns():
    latency = table_text(bench_output()[0], 80).splitlines()
    heading = next(line for line in latency if "p50" in line)
    assert all(word in heading for word in ("p50", "p90", "p99"))


def test_each_block_names_its_rows_where_the_first_column_alone_does_not():
    headings = (
        text("precision"),
        text("mode"),
        *(Column(f"figure {number}", spec=".1f") for number in range(9)),
    )
    rows = [
        (precision, mode, *map(float, range(9))) for precision in ("FP32", "INT8") for mode in ("10W", "20W")
    ]
    shown = table_text(Table("t", headings, rows), 60)
    assert shown.count(" mode ") > 1
    assert shown.count("20W") == 2 * shown.count(" mode ")


def test_caveat_is_printed_once_after_all_tables_of_bench():
    shown = "\n".join(table_text(table, 80) for table in bench_output())
    assert shown.count("not to be quoted") == 1
    assert "not to be quoted" in shown.splitlines()[-1]


def test_piped_table_has_one_line_per_row_and_note():
    table = bench_output()[0]
    lines = table_text(table, None).splitlines()
    assert lines[0] == table.title
    assert len(lines) == 1 + 2 + len(table.rows) + len(table.notes)


@settings(max_examples=40, deadline=None)
@given(
    names=st.lists(st.text("abcdé漢-_/ ", min_size=1, max_size=60), min_size=1, max_size=4, unique=True),
    columns=st.lists(st.sampled_from(["p50", "peak RSS of the process", "ratio"]), max_size=8),
    value=st.floats(0, 1e9),
    width=st.integers(20, 220),
)
def test_no_line_is_too_long_and_no_figure_is_cut(names, columns, value: float, width: int):
    kinds = (*(Column(name, "ms", ".2f") for name in columns), prose("why"))
    rows = tuple((name, *(value + i for i in range(len(columns))), "a long reason, " * 5) for name in names)
    table = Table("title", (text("engine"), *kinds), rows, ("note " * 30,))
    shown = table_text(table, width)
    assert max(map(cell_len, shown.splitlines())) <= width
    for i in range(len(columns)):
        assert shown.count(f"{value + i:.2f}") >= len(names)


def read_all(terminal: int) -> str:
    parts = []
    with contextlib.suppress(OSError):  # Linux reports the end of a terminal as an error
        while True:
            parts.append(os.read(terminal, 1 << 16))
    os.close(terminal)
    return b"".join(parts).decode()


def test_table_is_as_wide_as_the_terminal_and_whole_in_a_pipe(tmp_path: Path):
    code = (
        "from adq_edge.report.render.terminal import print_tables\n"
        "from adq_edge.report.table import Column, Table, text\n"
        "columns = (text('engine'), *(Column(f'column {i}') for i in range(20)))\n"
        "print_tables([Table('title', columns, (('n' * 27, *range(1000000, 1000020)),))])"
    )
    command = [sys.executable, "-c", code]
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    process = subprocess.Popen(command, stdout=slave, env=environment)
    os.close(slave)
    shown = read_all(master)
    assert process.wait() == 0
    assert max(map(len, shown.splitlines())) in range(70, 81)
    piped = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, check=True).stdout
    for output in (shown, piped):
        assert all(str(number) in output for number in range(1000000, 1000020))
    assert len(piped.splitlines()) == 4
    environment["PYTHONIOENCODING"] = "latin-1"
    plain = subprocess.run(command, stdout=subprocess.PIPE, env=environment, check=True).stdout
    assert plain.isascii()
