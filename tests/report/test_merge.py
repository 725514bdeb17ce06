"""Merging of results: devices, models, evaluations, baselines and reasons for caution."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from pathlib import Path
from typing import Dict, List

import pytest

from adq_edge.core.records import write_json
from adq_edge.hardware.board_state import BoardState
from adq_edge.report.load import load_results
from adq_edge.report.merge import merge
from adq_edge.report.model import Entry
from adq_edge.report.phrasing import speed_phrase
from adq_edge.report.report import report
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


def test_merge_matches_evaluations_by_engine_hash_and_compares_them_on_the_same_images_only(tmp_path: Path):
    fp32, int8 = make.engine("fp32"), make.engine("int8", baseline="stfpm-parts-fp32")
    make.write(tmp_path, make.bench_report([fp32, int8]), evaluated=False)
    other = dataclasses.replace(int8, engine=dataclasses.replace(int8.engine, sha256=make.digest("other")))
    write_quality(tmp_path, "a", fp32, image_auroc=0.98)
    write_quality(tmp_path, "b", other, image_auroc=0.5)
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


def test_merge_prefers_the_evaluation_with_the_runtime_and_machine_of_the_run(tmp_path: Path):
    item = make.engine("int8")
    make.write(tmp_path, make.bench_report([item]), evaluated=False)
    write_quality(tmp_path, "a", item, runtime="openvino 2026.4", image_auroc=0.1)
    write_quality(tmp_path, "b", item, environment=make.BOARD, image_auroc=0.2)
    write_quality(tmp_path, "c", item, image_auroc=0.3)
    write_quality(tmp_path, "d", item, runtime="openvino 2026.4", environment=make.BOARD, image_auroc=0.4)
    assert entries(tmp_path)["stfpm-parts-int8"].quality.image_auroc == 0.3


def test_speed_ratio_is_from_rounds_if_interleaved_else_from_medians(tmp_path: Path):
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
        ({"quick": True}, "quick run"),
        ({"count": 60}, "short run"),
        ({"noise": ("other processes took 34 % of the CPU",)}, "interference"),
        ({"steady": False}, "not warmed up"),
        ({"board": make.recording(2.0, throttled=True)}, "throttled"),
    ],
)
def test_engines_not_to_be_quoted_are_marked_and_never_compared_with_quotable_ones(
    tmp_path: Path, changes, word
):
    of_engine = {key: changes[key] for key in ("count", "steady", "board") if key in changes}
    of_run = {key: changes[key] for key in ("quick", "noise") if key in changes}
    make.write(tmp_path, make.bench_report([make.engine("fp32")]))
    doubtful = make.engine("int8", **of_engine)
    make.write(tmp_path, make.bench_report([doubtful], run="doubtful", **of_run))
    entry = entries(tmp_path)["stfpm-parts-int8"]
    assert not entry.quotable
    assert entry.baseline is None
    assert [flag.word for flag in entry.flags] == [word]
    made = report(tmp_path, tmp_path / "all")
    assert made.findings == ()
    assert made.cautions == {word: 1}
    page = (tmp_path / "all" / "report.html").read_text()
    headline, others = page.split('id="headline"')[1].split('id="doubtful"')
    assert doubtful.single_stream.latency.p50_ms == pytest.approx(13, rel=0.05)
    assert "INT8" not in headline
    assert f">{word}<" in others.split("</section>")[0]
    assert [row["caution"] for row in read_csv(tmp_path / "all" / "headline.csv")] == ["", word]
    assert word in (tmp_path / "all" / "report.md").read_text()


def test_report_shows_board_settings_and_builds_and_flags_changed_settings(tmp_path: Path):
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
    unlocked = BoardState(None, False, None, None, None)
    notes = bench_tables(dataclasses.replace(run, board_before=unlocked))[-1].notes
    assert "before: power mode unknown, clocks not locked" in notes
    assert any(note.startswith("the clocks were not locked, so a second run may differ") for note in notes)
    unlocked = dataclasses.replace(make.STATE, clocks_locked=False)
    make.write(tmp_path / "in", dataclasses.replace(run, board_after=unlocked))
    assert report(tmp_path / "in", tmp_path / "out").cautions == {"settings changed": 1}


def test_quick_runs_alone_are_compared_with_each_other_under_a_warning(tmp_path: Path):
    pair = [make.engine("fp32"), make.engine("int8", baseline="stfpm-parts-fp32")]
    make.write(tmp_path, make.bench_report(pair, quick=True))
    made = report(tmp_path, tmp_path / "r.html")
    assert len(made.findings) == 1
    assert "caution: quick run" in made.findings[0]
    page = (tmp_path / "r.html").read_text()
    assert "None of these figures is to be quoted" in page
    assert 'id="headline"' not in page


def test_flags_of_the_baseline_are_added_to_its_comparisons(tmp_path: Path):
    hot = make.recording(2.0, throttled=True)
    pair = [make.engine("fp32", board=hot), make.engine("int8", baseline="stfpm-parts-fp32", steady=False)]
    make.write(tmp_path, make.bench_report(pair))
    (sentence,) = report(tmp_path, tmp_path / "r.html").findings
    assert sentence.endswith("(caution: not warmed up, FP32 throttled).")


def test_merge_separates_machines(customer: Path):
    devices = merge(load_results([customer]))
    assert [device.name for device in devices] == ["Jetson Xavier NX (MODE_20W_6CORE)", "AMD EPYC 9654 (CPU)"]
    assert [[model.name for model in device.models] for device in devices] == [
        ["stfpm-parts"],
        ["stfpm-parts", "rd-parts"],
    ]


def test_merge_separates_hosts_power_modes_and_graphics_cards(tmp_path: Path):
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
    shown = {(row["what"], row["value"]) for row in read_csv(tmp_path / "all" / "environment.csv")}
    assert {
        ("host", "line-4"),
        ("power mode", "MODE_10W_DESKTOP"),
        ("graphics card", "NVIDIA RTX A2000"),
    } <= shown


def test_device_names_differ_by_cores_if_hosts_are_unknown(tmp_path: Path):
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
def test_evaluation_on_another_machine_or_runtime_is_flagged(tmp_path: Path, changes, why):
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
    assert [row["caution"] for row in latency] == ["", ""]  # its speed has no flag
    write_quality(tmp_path, "c", fp32)
    assert report(tmp_path, tmp_path / "all").cautions == {}


def test_baseline_of_the_same_runtime_is_preferred_and_another_runtime_is_named(tmp_path: Path):
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


def test_ratio_interval_around_1_is_reported_as_not_measurable(tmp_path: Path):
    fp32, int8 = make.engine("fp32"), make.engine("int8", baseline="stfpm-parts-fp32")
    compared = dataclasses.replace(
        int8.comparison, latency_ratio=0.8, latency_ratio_interval=make.Interval(0.5, 1.1)
    )
    make.write(tmp_path, make.bench_report([fp32, dataclasses.replace(int8, comparison=compared)]))
    assert (
        "INT8 is not measurably faster or slower than FP32" in report(tmp_path, tmp_path / "r.md").findings[0]
    )


@pytest.mark.parametrize(
    ("runtime", "precisions", "is_named"),
    [
        ("tensorrt", ("fp32", "int8"), True),
        ("tensorrt", ("fp16", "int8"), False),
        ("tensorrt", ("fp32",), False),
        ("onnxruntime", ("fp32", "int8"), False),
    ],
)
def test_ratio_to_fp32_of_tensorrt_names_tf32(runtime: str, precisions, is_named: bool):
    engines = [make.engine(precision, runtime=runtime) for precision in precisions]
    notes = [note for table in bench_tables(make.bench_report(engines)) for note in table.notes]
    assert any("without TF32" in note for note in notes) is is_named


@pytest.mark.parametrize(("share", "is_bound"), [(0.3, False), (0.9, True)])
@pytest.mark.parametrize("cuda_graph", [False, True])
def test_query_that_waits_for_the_cpu_is_named(share: float, is_bound: bool, cuda_graph: bool):
    engine = make.engine("int8", runtime="tensorrt")
    assert engine.single_stream is not None
    enqueue_ms = share * engine.single_stream.latency.p50_ms
    engine = dataclasses.replace(engine, enqueue_ms=enqueue_ms, cuda_graph=cuda_graph)
    notes = [note for table in bench_tables(make.bench_report([engine])) for note in table.notes]
    found = [note for note in notes if f"the CPU takes {enqueue_ms:.3f} ms to start a query" in note]
    assert len(found) == is_bound
    assert all(("which was not used" in note) is not cuda_graph for note in found)
