"""Reports: figures against the result files, formats, rejected files, hostile names and size."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import re
import shutil
from pathlib import Path
from typing import Dict, List

import pytest

from adq_edge.benchmark.results import BenchmarkReport
from adq_edge.core.errors import AdqError, ResultError, StorageError
from adq_edge.core.records import write_json
from adq_edge.report.report import report
from factories import results as make


@pytest.fixture(scope="module")
def customer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make.write_customer(tmp_path_factory.mktemp("customer"))


def read_csv(path: Path) -> List[Dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))


def write_quality(folder: Path, name: str, item, **changes: object) -> None:
    record = dataclasses.asdict(dataclasses.replace(make.evaluation(item), **changes))
    write_json(folder / f"{name}.eval.json", "adq-edge/eval", 1, record)


def test_headline_csv_equals_the_result_files(customer: Path, tmp_path: Path):
    report(customer, tmp_path / "all")
    rows = read_csv(tmp_path / "all" / "headline.csv")
    assert len(rows) == 6
    for path in customer.glob("*.bench.json"):
        content = json.loads(path.read_text())
        item, device = content["engines"][0], content["settings"]["device"]
        place = "Jetson Xavier NX (MODE_20W_6CORE)" if device == "jetson" else "AMD EPYC 9654 (CPU)"
        row = next(row for row in rows if (row["engine"], row["device"]) == (item["name"], place))
        best = max(point["images_per_second"] for point in item["offline"])
        assert float(row["p50, ms"]) == item["single_stream"]["latency"]["p50_ms"]
        assert float(row["p90, ms"]) == item["single_stream"]["latency"]["p90_ms"]
        assert float(row["throughput, images/s"]) == best
        assert float(row["engine, MB"]) == item["engine_mb"]
        assert float(row["image AUROC"]) == make.AUROC[item["precision"]]
        if item["recording"] is None:
            assert row["energy, J/image"] == ""
        else:
            assert float(row["energy, J/image"]) == item["recording"]["energy"]["joules_per_image"]


def test_html_markdown_and_csv_contain_the_same_tables(customer: Path, tmp_path: Path):
    report(customer, tmp_path / "all")
    for suffix in (".html", ".md"):
        report(customer, tmp_path / f"r{suffix}")
        same = tmp_path / "all" / f"report{suffix}"
        assert (tmp_path / f"r{suffix}").read_text() == same.read_text()
    report(customer, tmp_path / "r.csv")
    assert (tmp_path / "r.csv").read_bytes() == (tmp_path / "all" / "headline.csv").read_bytes()
    text, page = ((tmp_path / "all" / f"report{suffix}").read_text() for suffix in (".md", ".html"))
    rows = read_csv(tmp_path / "all" / "latency.csv")
    section = text.split("## SingleStream latency (batch 1, 1 stream)")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")][2:]
    assert len(lines) == len(rows) == 6
    columns = [cell.strip() for cell in section.splitlines()[2].strip("|").split("|")]
    for line, row in zip(lines, rows):
        shown = dict(zip(columns, (cell.strip() for cell in line.strip("|").split("|"))))
        for heading in ("mean, ms", "p50, ms", "p99, ms", "max, ms"):
            assert shown[heading] == f"{float(row[heading]):.2f}"
            assert f">{shown[heading]}</td>" in page
        ends = [f"{float(row[heading]):.2f}" for heading in ("p50 low, ms", "p50 high, ms")]
        assert shown["95 % interval of p50, ms"] == " to ".join(ends)
        assert (shown["95 % interval of p99, ms"], row["p99 low, ms"], row["p99 high, ms"]) == ("-", "", "")
    for name in (
        "energy",
        "environment",
        "sources",
        "stages",
        "throughput",
        "memory",
        "quality",
        "categories",
    ):
        assert read_csv(tmp_path / "all" / f"{name}.csv"), name


def damage(path: Path, kind: str) -> None:
    text = path.read_text()
    content = json.loads(text)

    def with_load(value: object) -> str:
        return json.dumps({**content, "engines": [{**content["engines"][0], "load_ms": value}]})

    changed = {
        "older": json.dumps({**content, "version": 1}),
        "cut": text[: len(text) // 2],
        "empty": "",
        "foreign": json.dumps({"schema": "adq-edge/ranges", "version": 1}),
        "list": "[1, 2]",
        "wrong": with_load("fast"),
        "long": with_load(["x\n"] * 9999),
        "NaN": with_load(math.nan),
        "infinite": with_load(0.5).replace("0.5", "1e999"),
        "huge": with_load(10**400),
        "impossible": re.sub(r'"p50_ms": [0-9.e-]+', '"p50_ms": 0.0', text),
        "a string": with_load("nan"),
        "no number": with_load(True),
        "no batch": re.sub(r'"batch": [0-9]+', '"batch": 0', text),
        "endless": re.sub(r'"images_per_second": [0-9.e-]+', '"images_per_second": 1e308', text),
        "gaps": re.sub(r'"seconds": \[[^]]+\]', '"seconds": []', text),
    }
    path.write_text(changed[kind])


@pytest.mark.parametrize("area", [1.5, -0.1, 1.79e308])
def test_report_rejects_areas_outside_0_to_1(tmp_path: Path, area: float):
    make.write(tmp_path / "in", make.bench_report([make.engine("fp32")]))
    path = tmp_path / "in" / "stfpm-parts-fp32.eval.json"
    content = json.loads(path.read_text())
    content["categories"][1]["pixel_auroc"] = area
    path.write_text(json.dumps(content))
    with pytest.raises(ResultError, match=r"eval\.json: holds an area under a curve that is not 0 to 1"):
        report(tmp_path / "in", tmp_path / "r.html")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("older", "format version is 1, this release reads version 3. Measure the engine again"),
        ("cut", "damaged, truncated or not JSON"),
        ("empty", "damaged, truncated or not JSON"),
        ("foreign", "not a result file that a report can show"),
        ("list", "not a result file that a report can show"),
        ("wrong", "not a valid adq-edge/bench file"),
        ("long", "not a valid adq-edge/bench file"),
        ("NaN", "NaN is not a finite number"),
        ("infinite", "1e999 is not a finite number"),
        ("huge", "too large for an integer"),
        ("impossible", "impossible values of stfpm-parts-fp32"),
        ("a string", "'nan' is not a number"),
        ("no number", "True is not a number"),
        ("no batch", "impossible values of stfpm-parts-fp32"),
        ("endless", "impossible values of stfpm-parts-fp32"),
        ("gaps", "impossible values of stfpm-parts-fp32"),
    ],
)
def test_report_rejects_unusable_files_and_writes_nothing(tmp_path: Path, kind: str, message: str):
    make.write(tmp_path / "in", make.bench_report([make.engine("fp32", board=make.recording(5.0))]))
    path = tmp_path / "in" / "stfpm-parts-fp32.bench.json"
    damage(path, kind)
    with pytest.raises(ResultError, match=re.escape(message)) as caught:
        report([path], tmp_path / "r.html")
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
    if kind not in ("foreign", "list"):  # a folder may contain other files, but no engine may be missing
        with pytest.raises(ResultError, match=re.escape(message)):
            report([tmp_path / "in"], tmp_path / "r.html")
    assert not (tmp_path / "r.html").exists()


@pytest.mark.parametrize("values", [[1.5, "hot"], [True], [[1.0]], "1.5", None])
def test_recordings_are_read_as_written_and_invalid_ones_rejected(tmp_path: Path, values: object):
    written = make.bench_report([make.engine("int8", board=make.recording(20))])
    written.write(tmp_path / "x.json")
    assert BenchmarkReport.read(tmp_path / "x.json") == written
    content = json.loads((tmp_path / "x.json").read_text())
    content["engines"][0]["recording"]["power"][1]["values"] = values
    (tmp_path / "x.json").write_text(json.dumps(content))
    with pytest.raises(ResultError, match="not a valid adq-edge/bench file"):
        BenchmarkReport.read(tmp_path / "x.json")


def test_report_skips_foreign_files_and_copies_in_folders(customer: Path, tmp_path: Path):
    folder = tmp_path / "results"
    shutil.copytree(str(customer), str(folder))
    (folder / "engine.onnx.json").write_text('{"schema": "adq-edge/engine", "version": 3}')
    (folder / ".half.json").write_text("{")
    (folder / "more").mkdir()
    copied = folder / "more" / "copy.json"
    shutil.copy(str(folder / "pc-stfpm-parts-fp32.bench.json"), str(copied))
    made = report([folder, folder / "pc-stfpm-parts-fp32.bench.json"], tmp_path / "all")
    assert len(read_csv(tmp_path / "all" / "headline.csv")) == 6
    assert len(made.notes) == 2
    assert any("the same content as" in note for note in made.notes)
    assert any("engine.onnx.json was left out" in note for note in made.notes)


@pytest.mark.parametrize("output", ["r.pdf", "r.json"])
def test_report_rejects_unknown_output_suffixes(customer: Path, tmp_path: Path, output: str):
    with pytest.raises(ResultError, match=re.escape("Use .html, .md, .csv or a folder")):
        report(customer, tmp_path / output)


def test_report_without_results_is_an_error(tmp_path: Path):
    with pytest.raises(ResultError, match="nothing to show"):
        report(tmp_path, tmp_path / "r.html")
    with pytest.raises(StorageError, match="no such file or folder"):
        report(tmp_path / "absent", tmp_path / "r.html")
    assert not list(tmp_path.iterdir())


def test_report_checks_all_output_paths_before_writing(customer: Path, tmp_path: Path):
    (tmp_path / "all" / "energy.csv").mkdir(parents=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="is a folder, not a file"):
        report(customer, tmp_path / "all")
    with pytest.raises(StorageError, match="file: is a file, not a folder"):
        report(customer, tmp_path / "file" / "r.html")
    for paths, output in (("n" * 300, "r.html"), (customer, "n" * 300)):
        with pytest.raises(StorageError, match="name too long"):
            report(paths, tmp_path / output)
    assert [path.name for path in (tmp_path / "all").iterdir()] == ["energy.csv"]


def test_full_disk_keeps_the_earlier_report(customer: Path, tmp_path: Path, full_disk):
    earlier = '<meta name="generator" content="adq-edge 0.1">'
    (tmp_path / "r.html").write_text(earlier)
    full_disk()
    with pytest.raises(AdqError, match="no space left"):
        report(customer, tmp_path / "r.html")
    assert [path.name for path in tmp_path.iterdir()] == ["r.html"]
    assert (tmp_path / "r.html").read_text() == earlier


HOSTILE = "=cmd|'/c calc'!A1 <script>alert(1)</script> | [x](javascript:y) \u202e \x00\n\"'&"


def test_hostile_names_are_escaped_in_every_format(tmp_path: Path):
    item = dataclasses.replace(make.engine("fp32", board=make.recording(5)), name=HOSTILE, arch=HOSTILE)
    environment = dataclasses.replace(make.PC, cpu=HOSTILE, os=HOSTILE, packages={HOSTILE: HOSTILE})
    measured = make.bench_report([item], environment, noise=(HOSTILE,))
    measured = dataclasses.replace(measured, created="x\ud800")
    (tmp_path / "in").mkdir()
    measured.write(tmp_path / "in" / "x.json")
    write_quality(tmp_path / "in", "y", item, data=HOSTILE)
    slow = dataclasses.replace(item, precision="int8", name=f"{HOSTILE}-2", engine=make.engine("int8").engine)
    dataclasses.replace(measured, engines=(slow,)).write(tmp_path / "in" / "z.json")
    made = report(tmp_path / "in", tmp_path / "all")
    assert made.findings
    assert not set("\u202e\x00\n") & set("".join(made.findings))  # they are printed to a terminal
    page = (tmp_path / "all" / "report.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert not set("\u202e\x00") & set(page)
    for path in (tmp_path / "all").glob("*.csv"):
        for row in csv.reader(io.StringIO(path.read_text())):
            assert not any(cell.startswith("=") for cell in row)
    text = (tmp_path / "all" / "report.md").read_text()
    assert "<script" not in text.replace("\\<", "")
    headline = next(line for line in text.splitlines() if "cmd" in line and line.startswith("| "))
    heading = next(line for line in text.splitlines() if line.startswith("| engine"))
    assert len(re.findall(r"(?<!\\)\|", headline)) == len(re.findall(r"(?<!\\)\|", heading))


def test_page_of_fifty_engines_with_recordings_is_below_3_mb(tmp_path: Path):
    board = make.recording(150.0, throttled=True)  # as long as a full run times an engine
    runs = [
        make.bench_report(
            [make.engine(p, model=f"model{n:02}", runtime="tensorrt", board=board)], make.BOARD, run=f"{n}{p}"
        )
        for n in range(25)
        for p in ("fp32", "int8")
    ]
    for run in runs:
        make.write(tmp_path / "in", run)
    assert len(list((tmp_path / "in").iterdir())) == 2 * 50
    made = report(tmp_path / "in", tmp_path / "r.html")
    assert made.cautions == {"throttled": 50}
    assert (tmp_path / "r.html").stat().st_size <= 3e6


@pytest.mark.parametrize("suffix", ["html", "md", "csv"])
def test_report_replaces_only_reports(customer: Path, tmp_path: Path, suffix: str):
    path = tmp_path / f"r.{suffix}"
    path.write_text("notes of a user")
    with pytest.raises(StorageError, match="is not a report of adq-edge, and is not replaced"):
        report(customer, path)
    assert path.read_text() == "notes of a user"
    path.unlink()
    for _ in range(2):
        report(customer, path)
    assert path.stat().st_size > 100
