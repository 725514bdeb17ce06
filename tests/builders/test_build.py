"""From bundle to engine to evaluation to prediction, on small images."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

import adq_edge
from adq_edge.artifacts.sidecar import read_sidecar, sidecar_path
from adq_edge.builders.build import build
from adq_edge.cli import app
from adq_edge.core.errors import (
    BundleError,
    CalibrationError,
    DataError,
    EngineError,
    MissingDependencyError,
    StorageError,
)
from adq_edge.core.files import sha256
from adq_edge.core.imaging import load_image, read_image
from adq_edge.core.options import Precision
from adq_edge.evaluation.evaluate import Evaluation, evaluate
from adq_edge.evaluation.predict import predict
from adq_edge.runtimes.registry import load_engine
from factories.images import SIZE, leftovers, write_dataset


@pytest.fixture
def engine(engines, tmp_path: Path) -> Path:
    """Return a copy of the INT8 engine that a test may change."""
    path = tmp_path / "engine.onnx"
    shutil.copy(str(engines[Precision.INT8]), str(path))
    shutil.copy(str(sidecar_path(engines[Precision.INT8])), str(sidecar_path(path)))
    return path


def images(dataset: Path) -> np.ndarray:
    paths = sorted(dataset.rglob("test/*/*.png"))
    return np.stack([load_image(path, (SIZE, SIZE)) for path in paths])


# --- build and load ------------------------------------------------------------------------------


def test_sidecar_describes_the_engine(engines, bundle):
    for precision, path in engines.items():
        sidecar = read_sidecar(path)
        assert (sidecar.precision, sidecar.runtime) == (precision, "onnxruntime")
        assert sidecar.engine_sha256 == sha256(path)
        assert sidecar.model.sha256 == bundle.manifest.model_sha256
        assert (sidecar.calibration is None) == (precision is not Precision.INT8)
    calibration = read_sidecar(engines[Precision.INT8]).calibration
    assert calibration is not None
    assert (calibration.source, calibration.images) == ("images", 12)
    assert calibration.ranges.sha256 == sha256(bundle.ranges_folder / calibration.ranges.name)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("precision", list(Precision))
def test_engines_agree_with_the_float_model(engines, bundle, dataset: Path, precision, runtime):
    if runtime == "openvino":
        pytest.importorskip("openvino")
    session = onnxruntime.InferenceSession(str(bundle.model), providers=["CPUExecutionProvider"])
    expected, _ = session.run(None, {"image": images(dataset)})
    with load_engine(engines[precision], runtime=runtime, threads=2) as engine:
        output = engine.run(images(dataset))
        one_by_one = np.concatenate([engine.run(image[None]).scores for image in images(dataset)])
    tolerance = {Precision.FP32: 1e-4, Precision.FP16: 0.01, Precision.INT8: 0.35}[precision]
    assert np.abs(output.maps - expected).max() <= tolerance * expected.max()
    np.testing.assert_allclose(output.scores, output.maps.max((1, 2)), rtol=1e-6)
    np.testing.assert_allclose(
        one_by_one, output.scores, rtol=1e-4 if precision is not Precision.INT8 else 0.02
    )


def test_random_normal_calibration_needs_no_images(bundle, tmp_path: Path):
    built = build(bundle.path, tmp_path / "e.onnx", calib="minmax", calib_data="random-normal", samples=3)
    assert built.sidecar.calibration.source == "random-normal"


def test_build_uses_calibration_data_folder_by_default(bundle, tmp_path: Path, monkeypatch, dataset: Path):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(str(dataset / "part0" / "train" / "good"), "calibration_data")
    built = build(bundle.path, calib="percentile:99.9")
    assert built.path == Path("engines/parts-int8-percentile99.9.onnx")
    assert built.sidecar.calibration.images == 6


def test_build_rejects_unusable_inputs(bundle, tmp_path: Path, monkeypatch, engines):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        BundleError, match=r"no bundle found here\. Name one, or make one first: adq-edge export"
    ):
        build()
    with pytest.raises(BundleError, match="an ONNX file, not a bundle"):
        build(engines[Precision.FP32])
    with pytest.raises(CalibrationError, match="no calibration images here"):
        build(bundle.path, calib_data=str(tmp_path))
    orphan = tmp_path / "orphan"
    shutil.copytree(str(bundle.path), str(orphan))
    manifest = json.loads((orphan / "manifest.json").read_text())
    (orphan / "manifest.json").write_text(json.dumps({**manifest, "data": None}))
    with pytest.raises(CalibrationError, match=r"no calibration images\. Put images there, or name a folder"):
        build(orphan)
    (tmp_path / "text.png").write_text("text")
    with pytest.raises(DataError, match=r"text\.png: not a readable image"):
        build(orphan, calib_data=str(tmp_path))
    assert not (tmp_path / "engines").exists()


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, StorageError("no space left")])
def test_interrupted_build_leaves_no_files(bundle, tmp_path: Path, monkeypatch, interruption):
    def stop(*_: object) -> None:
        raise interruption

    monkeypatch.setattr("adq_edge.artifacts.sidecar.Sidecar.write", stop)
    with pytest.raises(type(interruption) if isinstance(interruption, Exception) else interruption):
        build(bundle.path, tmp_path / "out" / "e.onnx", precision=Precision.FP32)
    assert not list((tmp_path / "out").iterdir())


def test_interrupted_calibration_leaves_no_ranges(bundle, dataset: Path, tmp_path: Path, monkeypatch):
    copy = tmp_path / "bundle"
    shutil.copytree(str(bundle.path), str(copy))
    shutil.rmtree(str(copy / "ranges"), ignore_errors=True)
    calls = []

    def stop(path: Path, size) -> np.ndarray:
        calls.append(path)
        if len(calls) > 3:
            raise KeyboardInterrupt
        return load_image(path, size)

    monkeypatch.setattr("adq_edge.calibration.sources.load_image", stop)
    with pytest.raises(KeyboardInterrupt):
        build(copy, tmp_path / "e.onnx", calib_data=str(dataset))
    assert not (copy / "ranges").exists()
    assert not (tmp_path / "e.onnx").exists()


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        ("engine gone", "no such engine"),
        ("sidecar gone", r"its sidecar engine\.onnx\.json is missing"),
        ("truncated", "truncated or changed"),
        ("other machine", "built for riscv128, this machine is"),
        ("sidecar garbled", "not a valid adq-edge/engine file"),
        ("sidecar with a path", "its name is not a plain file name"),
        ("foreign onnx", "cannot load it"),
    ],
)
def test_load_engine_rejects_damaged_engines(engine: Path, damage: str, complaint: str):
    sidecar = sidecar_path(engine)
    document = json.loads(sidecar.read_text())
    if damage == "engine gone":
        engine.unlink()
    elif damage == "sidecar gone":
        sidecar.unlink()
    elif damage == "truncated":
        engine.write_bytes(engine.read_bytes()[:1000])
    elif damage == "other machine":
        sidecar.write_text(json.dumps({**document, "machine": "riscv128"}))
    elif damage == "sidecar garbled":
        sidecar.write_text(json.dumps({**document, "image_size": 5}))
    elif damage == "sidecar with a path":
        sidecar.write_text(json.dumps({**document, "name": "../../elsewhere"}))
    else:
        engine.write_bytes(b"no onnx")
        sidecar.write_text(json.dumps({**document, "engine_sha256": sha256(engine)}))
    with pytest.raises(EngineError, match=complaint) as caught:
        load_engine(engine)
    assert "\n" not in str(caught.value)


def test_engine_rejects_images_of_another_size(engines):
    with load_engine(engines[Precision.FP32]) as engine:
        for wrong in (np.zeros((1, 32, 32, 3), np.uint8), np.zeros((1, SIZE, SIZE, 3), np.float32)):
            with pytest.raises(EngineError, match=rf"takes uint8 \[N, {SIZE}, {SIZE}, 3\] images"):
                engine.run(wrong)
    with pytest.raises(EngineError, match="is closed"):
        engine.run(np.zeros((1, SIZE, SIZE, 3), np.uint8))


def test_missing_runtime_error_names_the_package(engines, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.delitem(sys.modules, "adq_edge.runtimes.openvino", raising=False)
    with pytest.raises(MissingDependencyError, match=r"pip install 'adq-edge\[openvino\]'"):
        load_engine(engines[Precision.FP32], runtime="openvino")


# --- evaluate ------------------------------------------------------------------------------------


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
    bundle, dataset: Path, tmp_path: Path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(str(bundle.path), "bundle")
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
    assert "over 12 x images+synthetic-defects" in built  # six images, and the same with defects
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
    from adq_edge.core.imaging import write_image

    root = write_dataset(tmp_path / "data", categories=1)
    write_image(root / "part0" / "ground_truth" / "spot" / "000_mask.png", np.zeros((5, 7), np.uint8))
    with pytest.raises(DataError, match=f"mask is 7x5 pixels, its image is {SIZE}x{SIZE}"):
        evaluate(engine, root, output=tmp_path / "r.json")
    shutil.rmtree(str(root / "part0" / "test"))
    with pytest.raises(DataError, match="no test images"):
        evaluate(engine, root, output=tmp_path / "r.json")
    assert not (tmp_path / "r.json").exists()
    assert read_sidecar(engine).threshold is None


# --- predict -------------------------------------------------------------------------------------


def test_predict_returns_scores_decisions_and_heat_maps(engine: Path, dataset: Path, tmp_path: Path):
    evaluation = evaluate(engine, dataset, output=tmp_path / "r.json")
    folder = dataset / "part0" / "test" / "spot"
    bad = tmp_path / "bad.png"
    bad.write_text("text")
    with load_engine(engine) as loaded:
        results = list(predict(loaded, [folder, bad, tmp_path / "none.png"], output=tmp_path / "maps"))
    scores = {row.image: row.score for row in evaluation.scores}
    for result in results[:3]:
        assert result.score == scores[result.image]
        assert result.anomalous == (result.score >= evaluation.threshold)
        assert read_image(Path(result.heat_map)).shape == (SIZE, SIZE, 3)
    assert [result.error is None for result in results] == [True] * 3 + [False] * 2
    assert "not a readable image" in results[3].error
    assert "no such file" in results[4].error


def test_heat_maps_of_equal_names_are_kept_apart(engine: Path, dataset: Path, tmp_path: Path):
    images = sorted(dataset.rglob("test/*/000.png"))
    with load_engine(engine) as loaded:
        results = list(predict(loaded, images, output=tmp_path / "maps"))
    assert len({result.heat_map for result in results}) == len(images) == 4
    assert all(result.anomalous is None for result in results)  # no threshold before `eval`


def test_predict_rejects_an_empty_folder(engine: Path, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    with load_engine(engine) as loaded, pytest.raises(DataError, match="no images in this folder"):
        list(predict(loaded, [tmp_path / "empty"]))


# --- the Python interface ----------------------------------------------------------------------------


def test_public_functions_work_together(tmp_path: Path, monkeypatch, checkpoint: Path, dataset: Path):
    monkeypatch.chdir(tmp_path)
    bundle = adq_edge.export(checkpoint)
    built = adq_edge.build(bundle.path, precision="int8", calib="minmax")
    assert adq_edge.evaluate(built.path).image_auroc is not None
    with adq_edge.load_engine(built.path) as engine:
        (prediction,) = adq_edge.predict(engine, [dataset / "part0" / "test" / "spot" / "000.png"])
    assert prediction.anomalous is not None
    assert not leftovers(tmp_path)
    for name in adq_edge.__all__:
        assert callable(getattr(adq_edge, name)), name


def test_build_rejects_a_folder_as_output(bundle, tmp_path: Path):
    folder = tmp_path / "engine.onnx"
    folder.mkdir()
    with pytest.raises(StorageError, match=r"engine\.onnx: is a folder, not a file\. Name a file"):
        build(bundle.path, folder, precision="fp32")
    assert list(tmp_path.rglob("*")) == [folder]
