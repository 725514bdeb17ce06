"""A report of real result files, written by the other verbs."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from pathlib import Path

import pytest

from adq_edge.artifacts.file_kinds import SHOWN_BY_REPORT
from adq_edge.artifacts.sidecar import sidecar_path
from adq_edge.benchmark.bench import bench
from adq_edge.core.errors import ResultError
from adq_edge.core.options import Precision, Scenario
from adq_edge.evaluation.compare import Comparison, compare
from adq_edge.evaluation.evaluate import evaluate
from adq_edge.report.load import _READERS, load_results
from adq_edge.report.merge import merge
from adq_edge.report.report import report
from adq_edge.roofline.estimate import ModelEstimate, estimate
from factories.command_line import run_cli


def copy_engine(engine: Path, folder: Path) -> Path:
    """Copy an engine and its sidecar: `eval` stores a threshold, and other tests use the original."""
    for path in (engine, sidecar_path(engine)):
        shutil.copy(str(path), str(folder))
    return folder / engine.name


@pytest.fixture(scope="module")
def results(engines, bundle, dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    copies = tmp_path_factory.mktemp("engines")
    pair = [copy_engine(engines[precision], copies) for precision in (Precision.FP32, Precision.INT8)]
    scenarios = [Scenario.SINGLE_STREAM]
    bench(pair, queries=12, seconds=0.1, scenarios=scenarios, threads=1, output=folder, progress=False)
    for path in pair:
        evaluate(path, dataset, output=folder / f"{path.stem}.eval.json", threads=1)
    compare(*pair, dataset, output=folder / "pair.compare.json", worst=0, threads=1)
    estimate(bundle.path, folder / "parts.estimate.json")
    return folder


def test_report_merges_results_of_the_other_verbs(results: Path, tmp_path: Path):
    done = run_cli("report", results, "-o", tmp_path / "all", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "parts: INT8 is " in done.stdout
    assert "of 12 " in done.stdout  # decisions, from `compare`
    assert "caution: short run (2 engines)" in done.stdout
    rows = list(csv.DictReader(io.StringIO((tmp_path / "all" / "headline.csv").read_text())))
    assert [row["precision"] for row in rows] == ["FP32", "INT8"]
    for row in rows:
        quality, speed = (
            json.loads((results / f"{row['engine']}.{verb}.json").read_text()) for verb in ("eval", "bench")
        )
        measured = speed["engines"][0]
        assert quality["engine"]["sha256"] == measured["engine"]["sha256"]
        assert float(row["image AUROC"]) == quality["image_auroc"]
        assert float(row["p50, ms"]) == measured["single_stream"]["latency"]["p50_ms"]
    assert float(rows[1]["latency ratio"]) == measured["comparison"]["latency_ratio"]
    page = (tmp_path / "all" / "report.html").read_text()
    assert page.count('class="card estimate"') == 3
    assert "Agreement of engines of one model" in page


def test_comparison_of_the_evaluated_images_is_preferred(results: Path, engines, dataset, tmp_path: Path):
    folder = Path(shutil.copytree(str(results), str(tmp_path / "results")))
    whole = (folder / "pair.compare.json").rename(tmp_path / "pair.compare.json")
    pair = [engines[Precision.FP32], engines[Precision.INT8]]
    part = folder / "part.compare.json"
    compare(*pair, dataset, categories=["part1"], output=part, worst=0, threads=1)
    for expected in (None, Comparison.read(whole)):
        quantized = [e for d in merge(load_results([folder])) for e in d.entries if e.baseline is not None]
        assert [entry.agreement for entry in quantized] == [expected]
        shutil.copy(str(whole), str(folder / "pair.compare.json"))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"engines": []}, "has no estimate"),
        ({"modes": []}, "has no estimate"),
        ({"lower_bound_ms": 0.0}, "has an impossible time"),
    ],
)
def test_report_rejects_empty_and_impossible_estimates(results: Path, tmp_path: Path, change, complaint: str):
    content = json.loads((results / "parts.estimate.json").read_text())
    if "engines" in change:
        content.update(change)
    elif "modes" in change:
        content["engines"][0].update(change)
    else:
        content["engines"][0]["modes"][0].update(change)
    path = tmp_path / "parts.estimate.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ResultError, match=complaint):
        report(path, tmp_path / "r.html")


def test_report_shows_file_names_and_texts_that_are_not_unicode(results: Path, tmp_path: Path):
    """A file name that is not UTF-8, and a lone surrogate in a text."""
    folder = Path(shutil.copytree(str(results), str(tmp_path / "results")))
    (folder / os.fsdecode(b"caf\xe9.json")).write_text('{"schema": "adq-edge/bundle", "version": 1}')
    content = json.loads((folder / "parts.estimate.json").read_text())
    content["note"] = "half \ud800 a character"
    content["engines"][0]["modes"][0]["mode"]["name"] = "FAST"
    (folder / "parts.estimate.json").write_text(json.dumps(content))
    done = run_cli("report", folder, "-o", tmp_path / "all", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "was left out: not a result that a report shows" in done.stdout
    assert r"half \ud800 a character" in (tmp_path / "all" / "report.html").read_text(encoding="utf-8")


def test_estimates_are_read_as_written(results: Path, bundle, tmp_path: Path):
    assert ModelEstimate.read(results / "parts.estimate.json") == estimate(bundle.path, tmp_path / "e.json")


def test_report_prints_an_error_in_one_line_and_exits_with_2(tmp_path: Path):
    (tmp_path / "x.json").write_text('{"schema": "adq-edge/bench", "version": 1}')
    done = run_cli("report", "x.json", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("adq-edge: x.json: format version is 1")
    assert not (tmp_path / "report.html").exists()


def test_every_result_file_that_report_shows_is_recognized_by_its_schema():
    assert set(_READERS) == SHOWN_BY_REPORT
