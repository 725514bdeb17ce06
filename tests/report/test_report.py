"""Reports: what is joined with what, every number against the result files, and files that are refused."""

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

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adq_edge.benchmark.results import BenchmarkReport
from adq_edge.core.errors import AdqError, ResultError, StorageError
from adq_edge.core.records import write_json
from adq_edge.report.load import load_results
from adq_edge.report.merge import merge
from adq_edge.report.model import Entry
from adq_edge.report.phrasing import speed_phrase
from adq_edge.report.report import report
from adq_edge.report.svg.axes import fit
from adq_edge.report.svg.curves import Curve, curve_chart
from adq_edge.report.svg.rows import Strip, distribution_chart
from adq_edge.report.tables.bench import bench_tables
from factories import results as make


@pytest.fixture(scope="module")
def customer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make.write_customer(tmp_path_factory.mktemp("customer"))


def entries(folder: Path) -> Dict[str, Entry]:
    return {entry.engine.name: entry for device in merge(load_results([folder])) for entry in device.entries}


def read_csv(path: Path) -> List[Dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))


def write_quality(folder: Path, name: str, item, **changes: object) -> None:
    record = dataclasses.asdict(dataclasses.replace(make.evaluation(item), **changes))
    write_json(folder / f"{name}.eval.json", "adq-edge/eval", 1, record)


# --- what is joined with what ----------------------------------------------------------------------


def test_quality_is_that_of_the_very_engine_and_is_compared_on_the_same_images_only(tmp_path: Path):
    fp32, int8 = make.engine("fp32"), make.engine("int8", baseline="stfpm-parts-fp32")
    make.write(tmp_path, make.bench_report([fp32, int8]), evaluated=False)
    impostor = dataclasses.replace(int8, engine=dataclasses.replace(int8.engine, sha256=make.digest("other")))
    write_quality(tmp_path, "a", fp32, image_auroc=0.98)
    write_quality(tmp_path, "b", impostor, image_auroc=0.5)
    found = entries(tmp_path)
    assert found["stfpm-parts-int8"].quality is None
    write_quality(tmp_path, "c", int8, image_auroc=0.96)
    assert entries(tmp_path)["stfpm-parts-int8"].auroc_change == pytest.approx(-0.02)
    scores = make.evaluation(int8).scores
    elsewhere = tuple(dataclasses.replace(score, image=f"/board/{score.image}") for score in scores)
    write_quality(tmp_path, "c", int8, image_auroc=0.96, scores=elsewhere)
    assert entries(tmp_path)["stfpm-parts-int8"].auroc_change == pytest.approx(-0.02)
    as_many = tuple(dataclasses.replace(score, image=score.image.replace("/0", "/9")) for score in scores)
    write_quality(tmp_path, "c", int8, image_auroc=0.96, scores=as_many)
    found = entries(tmp_path)
    assert found["stfpm-parts-int8"].quality.image_auroc == 0.96
    assert found["stfpm-parts-int8"].auroc_change is None


def test_of_several_evaluations_the_one_with_the_timed_runtime_and_machine_counts(tmp_path: Path):
    item = make.engine("int8")
    make.write(tmp_path, make.bench_report([item]), evaluated=False)
    write_quality(tmp_path, "a", item, runtime="openvino 2026.4", image_auroc=0.1)
    write_quality(tmp_path, "b", item, environment=make.BOARD, image_auroc=0.2)
    write_quality(tmp_path, "c", item, image_auroc=0.3)
    write_quality(tmp_path, "d", item, runtime="openvino 2026.4", environment=make.BOARD, image_auroc=0.4)
    assert entries(tmp_path)["stfpm-parts-int8"].quality.image_auroc == 0.3


def test_interleaved_engines_are_compared_round_by_round_and_others_by_their_medians(tmp_path: Path):
    fp32, int8 = make.engine("fp32"), make.engine("int8", baseline="stfpm-parts-fp32")
    make.write(tmp_path, make.bench_report([fp32, int8]))
    speed = entries(tmp_path)["stfpm-parts-int8"].speed
    assert speed == (int8.comparison.latency_ratio, int8.comparison.latency_ratio_interval, True)
    make.write(tmp_path, make.bench_report([int8], run="another"))
    speed = entries(tmp_path)["stfpm-parts-int8"].speed
    medians = [item.single_stream.latency.p50_ms for item in (int8, fp32)]
    assert speed == (medians[0] / medians[1], None, False)
    assert "(caution: not in turns)" in report(tmp_path, tmp_path / "r.md").findings[0]


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"quick": True}, "quick look"),
        ({"count": 60}, "short run"),
        ({"noise": ("other processes took 34 % of the CPU",)}, "not quiet"),
        ({"steady": False}, "not warm"),
        ({"board": make.recording(2.0, throttled=True)}, "throttled"),
    ],
)
def test_what_is_not_to_be_quoted_is_marked_and_never_compared_with_what_is(tmp_path: Path, changes, word):
    of_engine = {key: changes[key] for key in ("count", "steady", "board") if key in changes}
    of_run = {key: changes[key] for key in ("quick", "noise") if key in changes}
    make.write(tmp_path, make.bench_report([make.engine("fp32")]))
    look = make.engine("int8", **of_engine)
    make.write(tmp_path, make.bench_report([look], run="look", **of_run))
    entry = entries(tmp_path)["stfpm-parts-int8"]
    assert not entry.quotable
    assert entry.baseline is None
    assert [flag.word for flag in entry.flags] == [word]
    made = report(tmp_path, tmp_path / "all")
    assert made.findings == ()
    assert made.cautions == {word: 1}
    page = (tmp_path / "all" / "report.html").read_text()
    headline, looks = page.split('id="headline"')[1].split('id="doubtful"')
    assert look.single_stream.latency.p50_ms == pytest.approx(13, rel=0.05)
    assert "INT8" not in headline
    assert f">{word}<" in looks.split("</section>")[0]
    assert [row["caution"] for row in read_csv(tmp_path / "all" / "headline.csv")] == ["", word]
    assert word in (tmp_path / "all" / "report.md").read_text()


def test_how_boards_were_set_and_engines_built_is_shown_and_a_change_is_a_caution(tmp_path: Path):
    item = make.engine("int8", runtime="tensorrt", board=make.recording(2.0))
    run = make.bench_report([item], make.BOARD, device="jetson")
    make.write(tmp_path / "in", run)
    assert report(tmp_path / "in", tmp_path / "out").cautions == {}
    before, after = read_csv(tmp_path / "out" / "board.csv")
    assert (before["when"], before["power mode"], before["clocks locked"]) == (
        "before",
        "MODE_20W_6CORE (mode 8)",
        "yes",
    )
    assert (float(before["hottest, °C"]), float(after["hottest, °C"])) == (38.5, 52.25)
    (engine,) = read_csv(tmp_path / "out" / "engines.csv")
    assert (float(engine["build, s"]), engine["CUDA graph"], engine["layers"]) == (
        412.5,
        "no",
        "31 INT8, 12 FP32",
    )
    machine = {row["what"]: row["value"] for row in read_csv(tmp_path / "out" / "environment.csv")}
    assert (machine["Jetson Linux"], machine["CUDA"]) == ("L4T 35.4.1, JetPack 5.1.2", "11.4")
    *_, board = bench_tables(run)
    assert "before: MODE_20W_6CORE (mode 8), clocks locked, GPU 1109 MHz, 38.5 degC" in board.notes[-2]
    unlocked = dataclasses.replace(make.STATE, clocks_locked=False)
    make.write(tmp_path / "in", dataclasses.replace(run, board_after=unlocked))
    assert report(tmp_path / "in", tmp_path / "out").cautions == {"settings changed": 1}


def test_looks_alone_are_compared_among_themselves_under_a_banner(tmp_path: Path):
    pair = [make.engine("fp32"), make.engine("int8", baseline="stfpm-parts-fp32")]
    make.write(tmp_path, make.bench_report(pair, quick=True))
    made = report(tmp_path, tmp_path / "r.html")
    assert len(made.findings) == 1
    assert "caution: quick look" in made.findings[0]
    page = (tmp_path / "r.html").read_text()
    assert "None of these figures is to be quoted" in page
    assert 'id="headline"' not in page


def test_a_doubtful_baseline_stains_its_comparisons(tmp_path: Path):
    hot = make.recording(2.0, throttled=True)
    pair = [make.engine("fp32", board=hot), make.engine("int8", baseline="stfpm-parts-fp32", steady=False)]
    make.write(tmp_path, make.bench_report(pair))
    (said,) = report(tmp_path, tmp_path / "r.html").findings
    assert said.endswith("(caution: not warm, FP32 throttled).")


def test_machines_and_their_uses_stand_apart(customer: Path):
    devices = merge(load_results([customer]))
    assert [device.name for device in devices] == ["Jetson Xavier NX (MODE_20W_6CORE)", "AMD EPYC 9654 (CPU)"]
    assert [[model.name for model in device.models] for device in devices] == [
        ["stfpm-parts"],
        ["stfpm-parts", "rd-parts"],
    ]


def test_boards_of_one_model_and_power_modes_are_devices_of_their_own(tmp_path: Path):
    places = [
        (make.BOARD, "jetson"),
        (dataclasses.replace(make.BOARD, host="line-4"), "jetson"),
        (dataclasses.replace(make.BOARD, power_mode="MODE_10W_DESKTOP"), "jetson"),
        (dataclasses.replace(make.PC, gpu="NVIDIA GeForce RTX 3060"), "cuda"),
        (dataclasses.replace(make.PC, gpu="NVIDIA RTX A2000"), "cuda"),
        (make.PC, "cpu"),
        (dataclasses.replace(make.PC, packages={}), "cpu"),
    ]
    for number, (environment, device) in enumerate(places):
        item = make.engine("fp32")
        make.write(
            tmp_path, make.bench_report([item], environment, device=device, run=str(number)), f"{number}-"
        )
    devices = merge(load_results([tmp_path]))
    assert sorted((device.name, len(device.entries)) for device in devices) == [
        ("AMD EPYC 9654 (CPU)", 2),
        ("Jetson Xavier NX (MODE_10W_DESKTOP)", 1),
        ("Jetson Xavier NX (MODE_20W_6CORE), host line-3", 1),
        ("Jetson Xavier NX (MODE_20W_6CORE), host line-4", 1),
        ("NVIDIA GeForce RTX 3060 (CUDA)", 1),
        ("NVIDIA RTX A2000 (CUDA)", 1),
    ]
    report(tmp_path, tmp_path / "all")
    told = {(row["what"], row["value"]) for row in read_csv(tmp_path / "all" / "environment.csv")}
    assert {
        ("host", "line-4"),
        ("power mode", "MODE_10W_DESKTOP"),
        ("graphics card", "NVIDIA RTX A2000"),
    } <= told


def test_devices_that_only_cores_tell_apart_and_results_that_name_no_host(tmp_path: Path):
    old = dataclasses.replace(make.PC, host=None)
    for number, environment in enumerate((old, make.PC, dataclasses.replace(old, logical_cores=4))):
        folder = tmp_path / str(number)
        make.write(
            folder, make.bench_report([make.engine("fp32")], environment, run=folder.name), evaluated=False
        )
    content = json.loads((tmp_path / "0" / "stfpm-parts-fp32.bench.json").read_text())
    for name in ("gpu", "power_mode", "host"):
        del content["environment"][name]
    (tmp_path / "0" / "stfpm-parts-fp32.bench.json").write_text(json.dumps(content))
    write_quality(tmp_path, "q", make.engine("fp32"))
    devices = merge(load_results([tmp_path]))
    assert [device.name for device in devices] == [
        "AMD EPYC 9654 (CPU), 2 cores",
        "AMD EPYC 9654 (CPU), host bench-pc, 2 cores",
        "AMD EPYC 9654 (CPU), 4 cores",
    ]
    assert [entry.quality_flags for device in devices for entry in device.entries] == [()] * 3


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"runtime": "openvino 2026.4"}, "it was evaluated with openvino 2026.4, timed with onnxruntime"),
        ({"environment": make.BOARD}, "it was evaluated on another machine than it was timed on"),
        (
            {"environment": dataclasses.replace(make.PC, host="another-pc")},
            "it was evaluated on another machine than it was timed on",
        ),
    ],
)
def test_quality_from_elsewhere_is_said_beside_it_and_stains_comparisons(tmp_path: Path, changes, why):
    fp32, int8 = make.engine("fp32"), make.engine("int8", baseline="stfpm-parts-fp32")
    make.write(tmp_path, make.bench_report([fp32, int8]), evaluated=False)
    write_quality(tmp_path, "a", fp32, **changes)
    write_quality(tmp_path, "b", int8)
    made = report(tmp_path, tmp_path / "all")
    assert made.cautions == {"evaluated elsewhere": 1}
    assert "(caution: FP32 evaluated elsewhere)" in made.findings[0]
    cautions = read_csv(tmp_path / "all" / "cautions.csv")
    assert [(row["engine"], row["why"]) for row in cautions] == [
        ("stfpm-parts-fp32", f"{why}; evaluate it where it is timed")
    ]
    headline, latency = (read_csv(tmp_path / "all" / f"{name}.csv") for name in ("headline", "latency"))
    assert [row["caution"] for row in headline] == ["evaluated elsewhere", "FP32 evaluated elsewhere"]
    assert [row["caution"] for row in latency] == ["", ""]  # its speed is beyond doubt
    write_quality(tmp_path, "c", fp32)
    assert report(tmp_path, tmp_path / "all").cautions == {}


def test_the_baseline_has_the_same_runtime_or_its_runtime_is_named(tmp_path: Path):
    fp32 = make.engine("fp32", name="ort-fp32")
    int8 = make.engine("int8", name="ov-int8", runtime="openvino", baseline="ort-fp32")
    make.write(tmp_path / "in", make.bench_report([fp32, int8], run="mixed"))
    mixed = entries(tmp_path / "in")["ov-int8"]
    assert mixed.speed.interleaved
    assert speed_phrase(mixed) == "3.1x faster than FP32 with onnxruntime"

    slower = make.engine("fp32", name="ov-fp32", scale=2.0, runtime="openvino")
    make.write(tmp_path / "in", make.bench_report([slower], run="alone"))
    alike = entries(tmp_path / "in")["ov-int8"]
    assert alike.baseline.engine.name == "ov-fp32"
    assert speed_phrase(alike) == "6.2x faster than FP32"


def test_an_interval_that_holds_1_is_no_claim_of_equal_speed(tmp_path: Path):
    fp32, int8 = make.engine("fp32"), make.engine("int8", baseline="stfpm-parts-fp32")
    compared = dataclasses.replace(
        int8.comparison, latency_ratio=0.8, latency_ratio_interval=make.Interval(0.5, 1.1)
    )
    make.write(tmp_path, make.bench_report([fp32, dataclasses.replace(int8, comparison=compared)]))
    assert (
        "INT8 is not measurably faster or slower than FP32" in report(tmp_path, tmp_path / "r.md").findings[0]
    )


# --- numbers ---------------------------------------------------------------------------------------


def test_every_number_of_the_tables_is_that_of_the_result_files(customer: Path, tmp_path: Path):
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


def test_html_markdown_and_csv_hold_the_same_tables(customer: Path, tmp_path: Path):
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


def test_the_ridge_is_the_histogram_of_the_queries():
    """The outline's heights against counts of the raw durations in the same bins."""
    generator = np.random.default_rng(3)
    durations = 20 + generator.gamma(4.0, 0.8, 40_000)
    quantiles = tuple(float(value) for value in np.percentile(durations, np.arange(0, 100.5, 0.5)))
    latency = dataclasses.replace(
        make.latency(20), quantiles_ms=quantiles, min_ms=quantiles[0], max_ms=quantiles[-1]
    )
    chart = distribution_chart("here", [Strip("engine", "int8", latency, "")])
    outline = re.search(r'd="M([^"Z]+)Z" class="area', chart.body).group(1)
    points = np.array([[float(number) for number in point.split()] for point in outline.split("L")])
    tops = points[1:-1:2]  # the left upper corner of each bar
    heights = points[0, 1] - tops[:, 1]
    scale = fit([quantiles[0], quantiles[-1]], 6.0, 348.0)
    edges = np.append(tops[:, 0], points[-1, 0])
    positions = [scale(value) for value in durations]
    counts, _ = np.histogram(positions, edges)
    shares, drawn = counts / counts.sum(), heights / heights.sum()
    assert np.abs(np.cumsum(shares) - np.cumsum(drawn)).max() < 0.01


@given(st.lists(st.floats(1e-6, 1e9), min_size=1, max_size=20), st.booleans(), st.booleans())
def test_axes_hold_all_values_in_order_and_their_ticks_are_round(
    values: List[float], zero: bool, spread: bool
):
    scale = fit(values, 10.0, 350.0, zero=zero, spread=spread)
    ordered = [scale(value) for value in sorted(values)]
    assert ordered == sorted(ordered)
    assert all(9.99 <= position <= 350.01 for position in ordered)
    ticks = scale.ticks()
    assert ticks == sorted(set(ticks))
    assert all(9.9 <= scale(tick) <= 350.1 for tick in ticks)
    for tick in ticks if scale.logarithmic else ():
        digit = tick / 10 ** math.floor(math.log10(tick) + 1e-9)
        assert min(abs(digit - round_digit) for round_digit in (1, 2, 5)) < 1e-6


def test_thinned_readings_keep_every_peak_and_every_gap():
    values = [5.0] * 4000
    values[1234], values[3210] = 9.0, 1.0
    readings = [None if 2000 <= i < 2200 else value for i, value in enumerate(values)]
    points = list(zip(map(float, range(4000)), readings))
    chart = curve_chart("power", "seconds", "W", [Curve("rail", "part0", 0, points)])
    *paths, _ = re.findall(r'd="M([^"]+)" class="line part0"', chart.body)  # the last is the legend's
    assert len(paths) == 2
    heights = [float(point.split()[1]) for path in paths for point in path.split("L")]
    assert len(heights) < 200
    assert len({min(heights), max(heights)} - {heights[0]}) == 2
    assert "1.00 to 9.00" in chart.description


# --- files that are refused or left out ------------------------------------------------------------


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
def test_an_area_under_a_curve_is_0_to_1(tmp_path: Path, area: float):
    make.write(tmp_path / "in", make.bench_report([make.engine("fp32")]))
    path = tmp_path / "in" / "stfpm-parts-fp32.eval.json"
    content = json.loads(path.read_text())
    content["categories"][1]["pixel_auroc"] = area
    path.write_text(json.dumps(content))
    with pytest.raises(ResultError, match=r"eval\.json: holds an area under a curve that is not 0 to 1"):
        report(tmp_path / "in", tmp_path / "r.html")


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("older", "format version is 1, this release reads version 3. Measure the engine again"),
        ("cut", "damaged or cut short"),
        ("empty", "damaged or cut short"),
        ("foreign", "not a result file that a report can show"),
        ("list", "not a result file that a report can show"),
        ("wrong", "not a valid adq-edge/bench file"),
        ("long", "not a valid adq-edge/bench file"),
        ("NaN", "NaN is not a finite number"),
        ("infinite", "1e999 is not a finite number"),
        ("huge", "int too large"),
        ("impossible", "impossible figures of stfpm-parts-fp32"),
        ("a string", "'nan' is not a number"),
        ("no number", "True is not a number"),
        ("no batch", "impossible figures of stfpm-parts-fp32"),
        ("endless", "impossible figures of stfpm-parts-fp32"),
        ("gaps", "impossible figures of stfpm-parts-fp32"),
    ],
)
def test_a_file_that_cannot_be_shown_is_one_clear_line_and_nothing_is_written(tmp_path, kind, said):
    make.write(tmp_path / "in", make.bench_report([make.engine("fp32", board=make.recording(5.0))]))
    path = tmp_path / "in" / "stfpm-parts-fp32.bench.json"
    damage(path, kind)
    with pytest.raises(ResultError, match=re.escape(said)) as caught:
        report([path], tmp_path / "r.html")
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
    if kind not in ("foreign", "list"):  # a folder holds other things too, but must not lack an engine
        with pytest.raises(ResultError, match=re.escape(said)):
            report([tmp_path / "in"], tmp_path / "r.html")
    assert not (tmp_path / "r.html").exists()


@pytest.mark.parametrize("values", [[1.5, "hot"], [True], [[1.0]], "1.5", None])
def test_a_recording_is_read_as_written_and_checked(tmp_path: Path, values: object):
    written = make.bench_report([make.engine("int8", board=make.recording(20))])
    written.write(tmp_path / "x.json")
    assert BenchmarkReport.read(tmp_path / "x.json") == written
    content = json.loads((tmp_path / "x.json").read_text())
    content["engines"][0]["recording"]["power"][1]["values"] = values
    (tmp_path / "x.json").write_text(json.dumps(content))
    with pytest.raises(ResultError, match="not a valid adq-edge/bench file"):
        BenchmarkReport.read(tmp_path / "x.json")


def test_a_folder_may_hold_other_files_and_copies(customer: Path, tmp_path: Path):
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
def test_an_unknown_kind_of_report_is_refused(customer: Path, tmp_path: Path, output: str):
    with pytest.raises(ResultError, match=re.escape("Use .html, .md, .csv or a folder")):
        report(customer, tmp_path / output)


def test_nothing_to_show(tmp_path: Path):
    with pytest.raises(ResultError, match="nothing to show"):
        report(tmp_path, tmp_path / "r.html")
    with pytest.raises(StorageError, match="no such file or folder"):
        report(tmp_path / "absent", tmp_path / "r.html")
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_refused_before_anything_is(customer: Path, tmp_path: Path):
    (tmp_path / "all" / "energy.csv").mkdir(parents=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="a folder has this name"):
        report(customer, tmp_path / "all")
    with pytest.raises(StorageError, match="no file can be made here"):
        report(customer, tmp_path / "file" / "r.html")
    for paths, output in (("n" * 300, "r.html"), (customer, "n" * 300)):
        with pytest.raises(StorageError, match="name too long"):
            report(paths, tmp_path / output)
    assert [path.name for path in (tmp_path / "all").iterdir()] == ["energy.csv"]


def test_a_full_disk_leaves_the_earlier_report(customer: Path, tmp_path: Path, full_disk):
    (tmp_path / "r.html").write_text("earlier")
    full_disk()
    with pytest.raises(AdqError, match="no space left"):
        report(customer, tmp_path / "r.html")
    assert [path.name for path in tmp_path.iterdir()] == ["r.html"]
    assert (tmp_path / "r.html").read_text() == "earlier"


# --- what hostile strings can do, and size ---------------------------------------------------------

HOSTILE = "=cmd|'/c calc'!A1 <script>alert(1)</script> | [x](javascript:y) \u202e \x00\n\"'&"


def test_hostile_names_are_only_text(tmp_path: Path):
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


def test_fifty_engines_with_recordings_and_evaluations_stay_small(tmp_path: Path):
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
