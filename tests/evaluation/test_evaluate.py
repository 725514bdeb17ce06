"""`evaluate` on small images."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from adq_edge.artifacts.sidecar import read_sidecar, sidecar_path
from adq_edge.cli import app
from adq_edge.core.errors import DataError, EngineError
from adq_edge.core.files import sha256
from adq_edge.core.images.imaging import load_image
from adq_edge.evaluation import evaluate as evaluation
from adq_edge.evaluation.evaluate import Evaluation, evaluate
from adq_edge.report.tables.quality import evaluation_table
from adq_edge.runtimes.registry import load_engine
from factories.images import SIZE, write_dataset
from factories.tiny_engine import write_engine


def test_evaluation_equals_scikit_learn(engine: Path, dataset: Path, tmp_path: Path):
    result = evaluate(engine, dataset, output=tmp_path / "r.json")
    assert Evaluation.read(tmp_path / "r.json") == result
    with load_engine(engine) as loaded:
        for quality in result.categories:
            rows = [row for row in result.scores if row.category == quality.name]
            again = [float(loaded.run(load_image(Path(r.image), (SIZE, SIZE))[None]).scores[0]) for r in rows]
            assert [row.score for row in rows] == again
            labels = [row.defect != "good" for row in rows]
            assert quality.image_auroc == pytest.approx(roc_auc_score(labels, again), abs=1e-12)
            assert 0.0 < quality.pixel_auroc <= 1.0  # the network is random
            assert 0.0 < quality.aupro <= 1.0
    assert result.image_auroc == np.mean([quality.image_auroc for quality in result.categories])


def test_threshold_is_stored_in_the_sidecar(engine: Path, dataset: Path, tmp_path: Path):
    before = read_sidecar(engine)
    assert before.threshold is None
    result = evaluate(engine, output=tmp_path / "r.json")  # on the training data by default
    stored = read_sidecar(engine)
    assert stored.threshold.score == result.threshold
    assert stored.threshold.images == 12
    assert dataclasses.replace(stored, threshold=None) == before


def test_model_of_one_category_uses_only_that_category_by_default(
    tiny_bundle, dataset: Path, tmp_path: Path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(str(tiny_bundle.path), "bundle")
    manifest = json.loads(Path("bundle/manifest.json").read_text())
    Path("bundle/manifest.json").write_text(json.dumps({**manifest, "categories": ["part1"]}))
    Path("calibration_data").symlink_to(dataset)
    engine = str(tmp_path / "engine.onnx")

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(app, list(arguments))
        assert result.exit_code == 0, result.output
        return result.output

    built = run("build", "bundle", "-o", engine, "--calib", "minmax", "--source", "images,synthetic-defects")
    assert "calibration on the model's categories only: part1" in built
    assert "12 inputs of source images+synthetic-defects" in built  # six images, and the same with defects
    for data in ([], ["--data", str(dataset)]):
        evaluated = run("eval", engine, *data)
        assert "evaluation on the model's categories only: part1" in evaluated
        assert "part0" not in evaluated
    threshold = read_sidecar(Path(engine)).threshold
    assert threshold is not None
    assert threshold.images == 6
    assert "part0" not in run("compare", engine, engine)

    assert "part0" in run("eval", engine, "--category", "part0", "--category", "part1")
    other = run("calibrate", "bundle", "--calib", "minmax", "--calib-data", str(dataset / "part0"))
    assert "over 6 images" in other
    assert "alone" not in other
    sidecar = json.loads(sidecar_path(Path(engine)).read_text())
    del sidecar["categories"]  # as in older releases
    sidecar_path(Path(engine)).write_text(json.dumps(sidecar))
    assert "part0" in run("eval", engine)


def test_category_without_masks_has_image_metrics_only(engine: Path, tmp_path: Path):
    root = write_dataset(tmp_path / "data")
    shutil.rmtree(str(root / "part0" / "ground_truth"))
    result = evaluate(engine, root, output=tmp_path / "r.json")
    without, with_masks = result.categories
    assert (without.pixel_auroc, without.aupro) == (None, None)
    assert without.image_auroc is not None
    assert result.pixel_auroc == with_masks.pixel_auroc


def test_category_without_defects_has_no_auroc(engine: Path, tmp_path: Path):
    root = write_dataset(tmp_path / "data")
    shutil.rmtree(str(root / "part0" / "test" / "spot"))
    result = evaluate(engine, root, output=tmp_path / "r.json")
    assert result.categories[0].image_auroc is None
    assert result.image_auroc == result.categories[1].image_auroc


def test_evaluate_rejects_unusable_data(engine: Path, tmp_path: Path):
    root = write_dataset(tmp_path / "data", categories=1)
    mask = root / "part0" / "ground_truth" / "spot" / "000_mask.png"
    cv2.imwrite(str(mask), np.zeros((5, 7), np.uint8))
    with pytest.raises(DataError, match=f"mask is 7x5 pixels, its image is {SIZE}x{SIZE}"):
        evaluate(engine, root, output=tmp_path / "r.json")
    shutil.rmtree(str(root / "part0" / "test"))
    with pytest.raises(DataError, match="no test images"):
        evaluate(engine, root, output=tmp_path / "r.json")
    assert not (tmp_path / "r.json").exists()
    assert read_sidecar(engine).threshold is None


# --- thresholds that mean nothing --------------------------------------------------------------------


@pytest.fixture
def separating_engine(tmp_path: Path) -> Path:
    """Return an engine that separates the spots of `write_dataset` from good images."""
    return write_engine(tmp_path / "engines" / "tiny.onnx")


@pytest.mark.parametrize(("kept", "missing"), [("good", "defective"), ("spot", "good")])
def test_images_of_one_class_store_no_threshold(
    separating_engine: Path, tmp_path: Path, kept: str, missing: str
):
    root = write_dataset(tmp_path / "data", categories=1)
    shutil.rmtree(str(root / "part0" / "test" / ("spot" if kept == "good" else "good")))
    result = evaluate(separating_engine, str(root), output=str(tmp_path / "r.json"))
    assert Evaluation.read(tmp_path / "r.json") == result
    assert (result.threshold, result.f1, result.image_auroc) == (None, None, None)
    assert (result.categories[0].threshold, result.categories[0].f1) == (None, None)
    assert read_sidecar(separating_engine).threshold is None
    only = "good" if kept == "good" else "defective"
    notes = evaluation_table(result).notes
    assert f"no threshold is stored: all test images are {only}" in notes[0]
    assert f"-: no {missing} test images: part0" in notes


def test_earlier_threshold_stays_if_a_later_eval_has_none(separating_engine: Path, tmp_path: Path):
    root = write_dataset(tmp_path / "data", categories=1)
    first = evaluate(separating_engine, root, output=tmp_path / "r.json")
    assert first.image_auroc == first.f1 == 1.0
    assert first.not_stored is None
    assert evaluation_table(first).notes[0].endswith("this threshold is stored with the engine")
    shutil.rmtree(str(root / "part0" / "test" / "spot"))
    second = evaluate(separating_engine, root, output=tmp_path / "r.json")
    assert f"the engine keeps its earlier threshold {first.threshold:.4g}" in second.not_stored
    assert read_sidecar(separating_engine).threshold.score == first.threshold


def test_threshold_that_calls_every_image_anomalous_is_not_stored(separating_engine: Path, tmp_path: Path):
    root = write_dataset(tmp_path / "data", categories=1)
    tests = root / "part0" / "test"
    for spot in (tests / "spot").iterdir():  # each defective image equals a good one
        shutil.copy(str(tests / "good" / spot.name), str(spot))
    result = evaluate(separating_engine, root, output=tmp_path / "r.json")
    assert result.f1 == pytest.approx(2 / 3)
    assert "it calls every test image anomalous" in result.not_stored
    assert read_sidecar(separating_engine).threshold is None


def test_threshold_of_another_runtime_is_not_stored(separating_engine: Path, tmp_path: Path):
    pytest.importorskip("openvino")
    root = write_dataset(tmp_path / "data", categories=1)
    result = evaluate(separating_engine, root, output=tmp_path / "r.json", runtime="openvino")
    assert result.threshold is not None
    assert (
        "measured with OpenVINO, the engine was built for ONNX Runtime" in evaluation_table(result).notes[0]
    )
    assert read_sidecar(separating_engine).threshold is None


def test_threshold_of_another_engine_file_is_dropped_with_trust(separating_engine: Path, tmp_path: Path):
    root = write_dataset(tmp_path / "data", categories=1)
    evaluate(separating_engine, root, output=tmp_path / "r.json")
    shutil.rmtree(str(root / "part0" / "test" / "spot"))
    other = write_engine(tmp_path / "other" / "tiny.onnx", weights_mb=1)
    shutil.copy(str(other), str(separating_engine))
    result = evaluate(separating_engine, root, output=tmp_path / "r.json", trust=True)
    assert result.engine.sha256 == sha256(separating_engine)
    assert result.threshold is None
    assert "earlier threshold" not in result.not_stored
    assert read_sidecar(separating_engine).threshold is None


def test_tables_say_why_figures_are_missing_or_partial(separating_engine: Path, tmp_path: Path):
    root = write_dataset(tmp_path / "data", categories=2)
    (root / "part0" / "ground_truth" / "spot" / "001_mask.png").unlink()
    shutil.rmtree(str(root / "part1" / "ground_truth"))
    result = evaluate(separating_engine, root, output=tmp_path / "r.json")
    assert [category.masks for category in result.categories] == [2, 0]
    assert evaluation_table(result).notes[1:] == (
        "2 of 3 defective images have a mask, for pixel AUROC and AUPRO: part0",
        "-: no masks: part1",
    )


def test_name_of_a_category_may_be_given_as_text(separating_engine: Path, tmp_path: Path):
    root = write_dataset(tmp_path / "data", categories=2)
    result = evaluate(separating_engine, root, categories="part1", output=tmp_path / "r.json")
    assert [category.name for category in result.categories] == ["part1"]


def test_engine_that_is_built_again_during_its_evaluation_keeps_its_sidecar(
    separating_engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    root = write_dataset(tmp_path / "data", categories=1)
    measured = evaluation._evaluate

    def measure_and_build(*arguments: object) -> Evaluation:
        result = measured(*arguments)
        write_engine(separating_engine, weights_mb=1)
        return result

    monkeypatch.setattr(evaluation, "_evaluate", measure_and_build)
    with pytest.raises(EngineError, match="changed during the evaluation, and nothing is stored"):
        evaluate(separating_engine, root, output=tmp_path / "r.json")
    assert read_sidecar(separating_engine).threshold is None
    assert not (tmp_path / "r.json").exists()


def next_step(engine: Path, data: Path, *arguments: str) -> str:
    """Run `eval` and return the text of its line `next:`."""
    command = ["eval", str(engine), "--data", str(data), "-o", str(data / "r.json"), *arguments]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    return result.output.partition("next: ")[2].strip()


def test_next_step_is_what_a_missing_threshold_needs(separating_engine: Path, tmp_path: Path):
    root = write_dataset(tmp_path / "data", categories=1)
    if importlib.util.find_spec("openvino") is not None:
        own_runtime = next_step(separating_engine, root, "--runtime", "openvino")
        assert own_runtime == f"adq-edge eval {separating_engine} --data {root}"
    assert next_step(separating_engine, root) == f"adq-edge bench {separating_engine}"
    tests = root / "part0" / "test"
    for spot in (tests / "spot").iterdir():  # each defective image equals a good one
        shutil.copy(str(tests / "good" / spot.name), str(spot))
    assert next_step(separating_engine, root).startswith("check the labels of the test images")
    shutil.rmtree(str(tests / "spot"))
    assert next_step(separating_engine, root).startswith("measure a threshold on good and defective images")
