from __future__ import annotations

import dataclasses
import json
import sys

import numpy as np
import pytest
import torch

from adq_edge.benchmark.results import Interference
from adq_edge.core.errors import AdqError
from adq_edge.models.checkpoint import load_checkpoint
from benchmarks.peers.__main__ import main
from benchmarks.peers.catalog import CONTENDERS, STFPM
from benchmarks.peers.competition import compete
from benchmarks.peers.materials import make_images, make_model
from benchmarks.peers.measuring import Figures, Plan, Timing
from benchmarks.peers.tables import Table, bars, write
from factories.images import make_model as make_stfpm

SIZE = 64
BY_LABEL = {contender.label: contender for contender in CONTENDERS[STFPM]}
OURS, EAGER = "adq-edge FP32, onnxruntime", "torch eager FP32"
QUANTIZER, ABSENT = "onnxruntime quantize_static, U8S8 on conv, add, pool", "NNCF defaults, OpenVINO"
ONLY_OTHERS = "anomalib INT8_PTQ, OpenVINOInferencer"


@pytest.fixture(scope="module")
def run(tmp_path_factory, dataset, one_thread):
    """A real run of three contenders and one whose interpreter does not exist, on a small STFPM."""
    work = tmp_path_factory.mktemp("peers")
    images = make_images(dataset, work / "images", (SIZE, SIZE), 6)
    model = make_model(STFPM, make_stfpm(size=SIZE), work / STFPM, images)
    pythons = dict.fromkeys(("adq-edge", "torch", "onnxruntime"), sys.executable)
    pythons["nncf"] = str(work / "no-python")
    versions: dict = {}
    chosen = [BY_LABEL[label] for label in (OURS, EAGER, QUANTIZER, ABSENT, ONLY_OTHERS)]
    makers = {contender.maker for contender in chosen[:-1]}
    table = compete(model, chosen, images, Plan(6, 0.0, 0.0), pythons, 1, versions, makers)
    return table, versions, model, work


def test_every_contender_runs_the_same_weights(run):
    table, versions, _, _ = run
    figures = dict(zip((contender.label for contender in table.contenders), table.figures))
    assert list(figures) == [OURS, EAGER, QUANTIZER]
    for label in (OURS, EAGER):
        assert figures[label].map_snr_db is None or figures[label].map_snr_db > 90
        assert figures[label].score_bias == pytest.approx(0.0, abs=1e-4)
    assert 5 < figures[QUANTIZER].map_snr_db < 60
    for each in figures.values():
        assert each.engine.count >= 6
        assert list(each.files) == ["64 px JPEG", "1024 px JPEG", "1024 px PNG"]
        assert all(timing.p90_ms >= timing.p50_ms > 0 for timing in (each.engine, *each.files.values()))
        assert each.peak_rss_mb > 50
    assert figures[EAGER].peak_rss_mb > figures[OURS].peak_rss_mb  # torch is in one of the two processes
    assert versions["torch"] == {"torch": torch.__version__}


def test_who_is_not_found_is_named_and_the_others_go_on(run):
    table, _, _, _ = run
    assert list(table.left_out) == [ABSENT, ONLY_OTHERS]
    assert table.left_out[ONLY_OTHERS] == "not selected"
    assert "no-python cannot be started (No such file or directory)" in table.left_out[ABSENT]


def test_weights_under_anomalibs_names_are_a_checkpoint_that_adq_edge_reads_back(run, tmp_path):
    _, _, model, _ = run
    path = tmp_path / "anomalib.ckpt"
    torch.save({"state_dict": torch.load(model.folder / "weights.pt", weights_only=True)}, path)
    loaded = load_checkpoint(path, image_size=(SIZE, SIZE))
    assert loaded.origin == "anomalib STFPM"
    images = np.load(model.folder.parent / "images" / "check.npy")
    with torch.inference_mode():
        maps, scores, *_ = loaded.model(torch.from_numpy(images))
    with np.load(model.folder / "anomalib.npz") as reference:
        np.testing.assert_allclose(maps.numpy(), reference["maps"], rtol=1e-3, atol=1e-7)
        np.testing.assert_allclose(scores.numpy(), reference["scores"], rtol=1e-3)


def test_results_are_written_for_machines_and_for_people(run, tmp_path):
    table, versions, _, _ = run
    settings = {
        "quick": True,
        "threads": 1,
        "check_images": 6,
        "queries": 6,
        "seconds": 0.0,
        "load_average": "0.00",
        "versions": versions,
    }
    text = write(tmp_path, "peers", [table], settings)
    assert (tmp_path / "peers.md").read_text() == text
    assert "A quick look: not to be quoted" in text
    assert "at least 6 queries and 0 s" in text
    assert f"Not measured: {ABSENT}" in text
    assert "| STFPM INT8 against anomalib INT8, engine only | 0.45 | - |" in text
    content = json.loads((tmp_path / "peers.json").read_text())
    assert [each["label"] for each in content["tables"][STFPM]["contenders"]] == [OURS, EAGER, QUANTIZER]
    assert content["quick"] is True
    assert content["environment"]["packages"]["onnxruntime"]


def _figures(*rounds_ms: float) -> Figures:
    p50 = float(np.median(rounds_ms))
    engine = Timing(len(rounds_ms), p50, p50, p50, list(rounds_ms))
    return Figures(engine, {"1024 px JPEG": engine}, 100.0, 1.0, 30.0, 0.0, file_mb=4.9)


def test_a_bar_takes_our_fastest_int8_and_their_fastest_of_the_same_rounds():
    lines = {
        "adq-edge INT8, openvino": _figures(8, 9, 20),
        "adq-edge INT8, onnxruntime": _figures(14, 15, 30),
        "adq-edge INT8, openvino, anomalib's scoring": _figures(1, 1, 1),  # not the first line's scoring
        EAGER: _figures(64, 72, 160),
        "torch eager FP32, channels last": _figures(10, 10, 10),
        "anomalib INT8_PTQ, OpenVINO, fixed input": dataclasses.replace(_figures(16, 18, 40), files={}),
        "anomalib INT8_PTQ, OpenVINOInferencer": _figures(20, 30, 40),
        ABSENT: _figures(10, 11.25, 25),
    }
    quiet = Interference(True, (), None, None, 0.0, None)
    table = Table(STFPM, [BY_LABEL[label] for label in lines], list(lines.values()), {}, quiet)
    ratios = {bar.text.partition(" against ")[2] or bar.text: bar.ratio for bar in bars([table])}
    assert ratios.pop("anomalib INT8, 1024 px PNG") is None
    assert {name: each.value for name, each in ratios.items()} == {
        "anomalib INT8, engine only": pytest.approx(0.5),  # each round's ratio is the same, drift or not
        "anomalib INT8, 1024 px JPEG": pytest.approx(0.4),
        "nncf INT8, engine only": pytest.approx(0.8),
        "torch eager FP32, engine only": pytest.approx(0.125),
        "STFPM INT8, peak RSS MB": 100.0,
        "STFPM INT8, file MB": 4.9,
    }


def test_interpreter_of_an_unknown_library_is_refused(tmp_path):
    with pytest.raises(AdqError, match="--python keras=/bin/python is not of the form MAKER=FILE"):
        main(["--data", str(tmp_path), "--stfpm", "none", "--python", "keras=/bin/python"])


def test_paste_is_the_best_engine_where_it_takes_part():
    lines = {
        "adq-edge INT8, openvino, PaSTe": _figures(6, 6, 6),
        "adq-edge INT8, onnxruntime, PaSTe": _figures(9, 9, 9),
        "adq-edge INT8, openvino": _figures(8, 8, 8),
    }
    quiet = Interference(True, (), None, None, 0.0, None)
    table = Table(STFPM, [BY_LABEL[label] for label in lines], list(lines.values()), {}, quiet)
    assert table.contenders[table.best].label == "adq-edge INT8, openvino, PaSTe"
