"""Files that release 0.1 wrote are still read; `tests/data/release_0_1` holds them, with long lists cut."""

from __future__ import annotations

import pytest

from adq_edge.artifacts.bundle import Manifest
from adq_edge.artifacts.ranges import Ranges
from adq_edge.artifacts.sidecar import Sidecar
from adq_edge.benchmark.results import BenchmarkReport
from adq_edge.evaluation.analysis import Analysis
from adq_edge.evaluation.compare import Comparison
from adq_edge.evaluation.evaluate import Evaluation
from adq_edge.hardware.doctor import Diagnosis
from adq_edge.roofline.estimate import ModelEstimate
from adq_edge.study.results import CellResult, StudyResult
from factories.paths import DATA

FOLDER = DATA / "release_0_1"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("ranges", Ranges),
        ("eval", Evaluation),
        ("estimate", ModelEstimate),
        ("doctor", Diagnosis),
        ("cell", CellResult),
        ("study", StudyResult),
    ],
)
def test_file_is_read_and_written_back_unchanged(name, kind, tmp_path):
    record = kind.read(FOLDER / f"{name}.json")
    record.write(tmp_path / "again.json")
    assert kind.read(tmp_path / "again.json") == record


def test_benchmark_keeps_its_interference(tmp_path):
    report = BenchmarkReport.read(FOLDER / "bench.json")
    assert not report.interference.is_quiet
    report.write(tmp_path / "again.json")
    assert BenchmarkReport.read(tmp_path / "again.json") == report


def test_manifest_says_where_the_images_of_the_parity_check_came_from():
    parity = Manifest.read(FOLDER / "manifest.json").parity
    assert (parity.images, parity.source) == (8, "parts")


def test_sidecar_of_a_tensorrt_engine_has_its_batch_size():
    sidecar = Sidecar.read(FOLDER / "engine.json")
    assert sidecar.tensorrt is not None
    assert sidecar.tensorrt.max_batch == 4


def test_comparison_names_its_sheet():
    comparison = Comparison.read(FOLDER / "compare.json")
    assert comparison.sheet == "parts.compare.jpg"
    assert len(comparison.sheet_images) == 3


def test_analysis_counts_its_images():
    analysis = Analysis.read(FOLDER / "analysis.json")
    assert (analysis.images, analysis.image_source) == (2, "images+synthetic-defects")
