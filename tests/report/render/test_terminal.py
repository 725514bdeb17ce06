"""Tables in a terminal: every figure is readable at every width, and nothing is cut in a pipe."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import io
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
from adq_edge.artifacts.products import Products
from adq_edge.benchmark.records import Interval
from adq_edge.core import console as core_console
from adq_edge.core.console import SafeConsole
from adq_edge.decision.check import Exchangeability, ExchangeabilityCheck, ProductCheck, RealizedRate
from adq_edge.decision.fit import Fit
from adq_edge.evaluation.analysis import Analysis, Calibration, LayerAnalysis
from adq_edge.report.model import entries_of
from adq_edge.report.render.terminal import print_tables, table_text
from adq_edge.report.table import Column, Kind, Table, prose, text
from adq_edge.report.tables.analysis import layer_table
from adq_edge.report.tables.bench import bench_tables
from adq_edge.report.tables.checks import check_table
from adq_edge.report.tables.comparison import agreement_table, auroc_table, decisions_tables
from adq_edge.report.tables.decisions import decision_tables
from adq_edge.report.tables.headline import summary_table
from adq_edge.report.tables.products import products_table
from adq_edge.report.tables.quality import evaluation_table
from factories import results as make
from factories.comparison import CATEGORIES, comparison
from factories.decisions import products_of, random_product

NAMES = [
    f"stfpm-unified-parts-r18-{end}" for end in ("fp32", "int8-lp", "int8-entropy", "int8-percentile-99.99")
]
HASH = "0" * 64
WORD = re.compile(r"[^\W_]+")
WIDTHS = (60, 80, 120, None)


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
        products_table(Fit(Path("e.products"), Path("e.onnx"), products(), (), (), ())),
        check_table(check()),
    ]


def products() -> Products:
    return products_of(HASH, *(random_product(f"{name}_of_the_second_line", 0) for name in ("bolt", "nut")))


def check() -> ExchangeabilityCheck:
    rate = RealizedRate(0.01, True, 2.1, 2, 6, 0.043, 0.777, None)
    found = ProductCheck(
        "a_long_product_name", 6, 40, rate, (rate,), 0.016, 0, 1, Exchangeability.TOO_FEW, "more"
    )
    return ExchangeabilityCheck("engines/e.onnx", HASH, "onnxruntime", "/data", (found,))


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


SHORT = st.floats(allow_nan=True, allow_infinity=True) | st.floats(-1e3, 1e3)
CELLS = {
    Kind.NUMBER: st.none()
    | SHORT
    | st.integers(-(10**20), 10**20)
    | st.sampled_from(["12 of 345", "22.7 dB"]),
    Kind.INTERVAL: st.none() | st.builds(Interval, SHORT, SHORT),
    Kind.TEXT: st.text("abcdefé漢0-_/. ", min_size=1, max_size=90),
    Kind.PROSE: st.none() | st.text("abcdefé漢0-_/. ", max_size=200),
}


@settings(max_examples=60, deadline=None)
@given(data=st.data(), width=st.sampled_from((60, 80, 120)), count=st.integers(1, 30))
def test_no_number_of_any_table_is_cut_whatever_its_values(data: st.DataObject, width: int, count: int):
    columns = data.draw(st.sampled_from([table.columns for table in every_table()]))
    drawn = [data.draw(st.tuples(*(CELLS[one.kind] for one in columns))) for _ in range(min(count, 3))]
    names = tuple(f"{number} {row[0]}" for number, row in enumerate(drawn * count))
    rows = tuple((name, *row[1:]) for name, row in zip(names, (drawn * count)[:count]))
    table = Table("a title " * 20, columns, rows, ("a note " * 40,))
    shown = table_text(table, width)
    lines = shown.splitlines()
    assert max(map(cell_len, lines)) <= width
    assert "\u2026" not in shown
    for column, cells in zip(columns, zip(*table.texts[:3])):
        for cell in cells if column.terminal and not column.kind.is_text else ():
            whole = re.compile(rf"(?:^|\s){re.escape(cell)}(?:\s|$)")
            assert cell == "-" or any(whole.search(line) for line in lines), (column.heading, cell)


@pytest.mark.parametrize("value", [1e300, -1.5e-300, float("nan"), float("inf"), 10**18])
def test_long_numbers_are_shown_with_an_exponent(value: float):
    assert len(Column("p50", "ms", ".2f").show(value)) <= 16


def test_note_of_several_tables_is_printed_once(capsys: pytest.CaptureFixture[str]):
    columns = (text("engine"), Column("p50", "ms", ".2f"))
    first, second = (Table(title, columns, (("a", 1.0),), ("caveat", title)) for title in ("one", "two"))
    print_tables([first, second])
    lines = capsys.readouterr().out.splitlines()
    assert lines.count("caveat") == 1
    assert lines[-1] == "two"


def test_row_stands_where_its_figures_are_and_lines_stay_between_groups():
    columns = (text("mode"), *(Column(f"figure {number}", spec=".1f") for number in range(9)))
    estimate = ("10W", *map(float, range(8)), None)
    rows = [estimate, ("measured", *[None] * 8, 5.0), ("20W", *estimate[1:])]
    first, second = table_text(Table("t", columns, tuple(rows), rules=(1,)), 60).split("\n\n")
    assert "measured" not in first
    assert first.count("\u2500" * 20 + "\n") == 2
    assert "measured" in second


def test_table_without_rows_says_so():
    assert table_text(Table("Products of e.onnx", (text("product"), Column("images")), ()), 80).split(
        "\n"
    ) == [
        "Products of e.onnx",
        "none",
    ]


@pytest.mark.parametrize("width", [40, 80])
def test_figures_beside_a_progress_bar_are_whole(width: int, monkeypatch: pytest.MonkeyPatch):
    drawn = io.StringIO()
    shown = SafeConsole(file=drawn, width=width, force_terminal=True, color_system=None)
    monkeypatch.setattr(core_console, "console", shown)
    name = "Comparing stfpm-unified-parts-r18-fp32.onnx with stfpm-unified-parts-r18-int8-lp.onnx"
    with core_console.progress_bar(name, 1270, "images") as advance:
        advance()
    assert "1270/1270 images" in drawn.getvalue()
    assert "\u2026" not in drawn.getvalue()


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
