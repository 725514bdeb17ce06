"""Precision plans: the file, the search, and engines built with a plan."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import subprocess
import types
from pathlib import Path
from typing import Dict, Iterator, List

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from adq_edge.artifacts.bundle import Bundle, open_bundle
from adq_edge.artifacts.precision_plan import Measure, Plan, Search, plan_path, read_plan
from adq_edge.artifacts.sidecar import read_sidecar
from adq_edge.builders.build import build
from adq_edge.builders.mixed_precision.goal import set_goal
from adq_edge.builders.mixed_precision.search import smallest_prefix
from adq_edge.builders.mixed_precision.trials import Trials
from adq_edge.calibration.sources import make_source
from adq_edge.core.errors import BuildError, DataError, EngineError, StorageError
from adq_edge.core.files import sha256
from adq_edge.core.images.imaging import load_image
from adq_edge.core.options import DEFAULT_CALIBRATOR, BuildOptions, Precision, Target, cpu_target
from adq_edge.quantization.float_model import FloatModel
from adq_edge.quantization.placement import integer_layers
from adq_edge.quantization.sensitivity import SensitivityAnalysis
from adq_edge.report.tables.plan import plan_table
from adq_edge.runtimes.registry import load_engine
from factories.command_line import run_cli
from factories.images import SIZE, leftovers, write_dataset

IMAGES = 6
DAMAGED = "percentile:80"
"""A calibrator that clips a fifth of all values, which makes INT8 bad."""


@pytest.fixture(scope="module", autouse=True)
def quick_search() -> Iterator[None]:
    """Measure few images and rounds, and rank the layers of each model once."""
    ranked: Dict[str, list] = {}

    measure = SensitivityAnalysis.layers

    def remember(analysis: SensitivityAnalysis, *arguments) -> list:
        content = analysis._model.proto.SerializeToString() + repr(sorted(analysis._ranges.items())).encode()
        key = hashlib.sha256(content).hexdigest()
        if key not in ranked:
            ranked[key] = measure(analysis, *arguments)
        return list(ranked[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SensitivityAnalysis, "layers", remember)
        patch.setattr("adq_edge.builders.mixed_precision.goal._IMAGES", IMAGES)
        patch.setattr("adq_edge.benchmark.schedule._SETTLE_SECONDS", 0.0)
        patch.setattr("adq_edge.builders.mixed_precision.trials._ROUNDS", 2)
        yield


@pytest.fixture(scope="module")
def bundle(narrow_bundle) -> Bundle:
    return narrow_bundle


@pytest.fixture(scope="module")
def engines(narrow_engines) -> Dict[Precision, Path]:
    return narrow_engines


@pytest.fixture(scope="module")
def layers(bundle) -> List[str]:
    """Return the layers that INT8 engines compute in integers."""
    region = FloatModel.load(bundle).region
    return [layer.node.name for layer in integer_layers(region, cpu_target())]


@pytest.fixture(scope="module")
def unlabeled(bundle, engines, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Return a calibrated bundle without a training dataset."""
    path = tmp_path_factory.mktemp("unlabeled") / "bundle"
    shutil.copytree(str(bundle.path), str(path))
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps({**manifest, "data": None}))
    return open_bundle(path)


@pytest.fixture(scope="module")
def everything(bundle, layers: List[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a plan that keeps every layer in float32."""
    path = tmp_path_factory.mktemp("plans") / "everything.json"
    Plan(bundle.manifest.model_sha256, cpu_target(), tuple(layers)).write(path)
    return path


def searched(plan: Plan) -> Search:
    assert plan.search is not None
    return plan.search


def drops(plan: Plan) -> Dict[int, float]:
    return {step.float_layers: step.drop for step in searched(plan).steps}


# --- the file ----------------------------------------------------------------------------------------


def test_plan_is_read_back_and_optional_fields_may_be_missing(tmp_path: Path, built_to_a_drop):
    plan = built_to_a_drop.plan
    plan.write(tmp_path / "p.json")
    assert read_plan(tmp_path / "p.json", plan.model_sha256, plan.float_layers) == plan
    by_hand = {"schema": "adq-edge/plan", "version": 1, "model_sha256": "a", "target": "arm"}
    (tmp_path / "h.json").write_text(json.dumps({**by_hand, "float_layers": ["one"]}))
    assert read_plan(tmp_path / "h.json", "a", ["one", "two"]) == Plan("a", Target.ARM, ("one",))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"model_sha256": "b"}, r"p\.json: plan of another model\. Find a plan for this bundle: adq-edge"),
        ({"float_layers": ["one", "nose", "ear"]}, r"p\.json: this model has no layer 'nose' to quantize"),
        ({"float_layers": ["one", "two", "one"]}, r"p\.json: layer 'one' is named twice\. Name each"),
        ({"float_layers": 5}, r"p\.json: not a valid adq-edge/plan file"),
        ({"target": "abacus"}, r"p\.json: not a valid adq-edge/plan file"),
        ({"schema": "adq-edge/eval"}, r"p\.json: not an adq-edge/plan file"),
        ({"version": 2}, r"p\.json: format version is 2, this release reads version 1"),
        (None, r"p\.json: not a JSON file"),
    ],
)
def test_read_plan_rejects_unsuitable_plans(tmp_path: Path, change, complaint: str):
    path = tmp_path / "p.json"
    Plan("a", Target.X86, ("one",)).write(path)
    if change is None:
        path.write_bytes(path.read_bytes()[:60])
    else:
        path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(BuildError, match=complaint) as caught:
        read_plan(path, "a", ["one", "two"])
    assert "\n" not in str(caught.value)


# --- the search ---------------------------------------------------------------------------------------


@given(st.integers(0, 200), st.integers(1, 201))
def test_smallest_prefix_needs_few_calls(total: int, smallest: int):
    asked: List[int] = []

    def meets_goal(count: int) -> bool:
        assert 1 <= count <= total
        asked.append(count)
        return count >= smallest

    assert smallest_prefix(meets_goal, total) == (smallest if smallest <= total else None)
    assert len(asked) <= 2 * total.bit_length()
    assert len(set(asked)) == len(asked)


@pytest.fixture(scope="module")
def built_to_a_drop(unlabeled, dataset: Path, tmp_path_factory: pytest.TempPathFactory):
    """Return an engine with at most half the map error of the all-INT8 engine."""
    folder = tmp_path_factory.mktemp("planned")
    first = build(unlabeled.path, folder / "f.onnx", calib_data=dataset, max_drop=1e9)
    limit = drops(first.plan)[0] / 2
    return build(unlabeled.path, folder / "out" / "e.onnx", calib_data=dataset, max_drop=limit)


def test_search_refuses_a_float_engine_with_constant_maps():
    maps = np.full((1, 4, 4), 0.5, np.float32)
    constant = types.SimpleNamespace(run=lambda images: types.SimpleNamespace(maps=maps))
    goal, images = types.SimpleNamespace(labeled=None), [np.zeros((4, 4, 3), np.uint8)] * 2
    with pytest.raises(EngineError, match=r"same value in every pixel .* Check the checkpoint"):
        Trials(goal, images, constant, constant, layers=3)


def test_search_without_labels_limits_the_map_error(
    built_to_a_drop, engines, dataset: Path, layers: List[str]
):
    plan, sidecar = built_to_a_drop.plan, built_to_a_drop.sidecar
    search = searched(plan)
    assert (search.measure, search.holds, search.layers) == (Measure.MAP_ERROR, True, len(layers))
    assert (search.data, search.images) == (str(dataset.resolve()), IMAGES)
    count = len(plan.float_layers)
    assert 0 < count < len(layers)
    assert set(plan.float_layers) < set(layers)
    assert drops(plan)[count] <= search.max_drop < drops(plan)[count - 1]
    for step in search.steps:
        assert step.drop == pytest.approx(10 ** (-step.map_snr_db / 20))
        assert step.latency_ratio > 0  # its value depends on the machine
    assert [step.float_layers for step in search.steps] == sorted(drops(plan))
    assert search.steps[0].latency_ratio == 1.0

    assert sidecar.float_layers == plan.float_layers
    assert sidecar.plan.name == plan_path(built_to_a_drop.path).name == "e.onnx.plan.json"
    assert sidecar.plan.sha256 == sha256(plan_path(built_to_a_drop.path))
    assert read_sidecar(built_to_a_drop.path) == sidecar
    assert read_plan(plan_path(built_to_a_drop.path), plan.model_sha256, layers) == plan
    assert {path.name for path in built_to_a_drop.path.parent.iterdir()} == {
        "e.onnx",
        "e.onnx.json",
        "e.onnx.plan.json",
    }
    # the engine on disk is the measured one
    images = list(make_source("images,synthetic-defects", dataset, IMAGES, seed=1).images((SIZE, SIZE)))
    maps = []
    for path in (engines[Precision.FP32], built_to_a_drop.path):
        with load_engine(path) as engine:
            maps.append(np.stack([engine.run(image[None]).maps[0] for image in images]))
    error = np.sqrt(np.sum((maps[0] - maps[1]) ** 2) / np.sum(maps[0] ** 2))
    assert error == pytest.approx(drops(plan)[count], rel=1e-4)


def test_single_float_layer_is_computed_in_float32(
    unlabeled, dataset: Path, layers: List[str], tmp_path: Path
):
    """By default ONNX Runtime also quantizes a float layer between two quantized ones."""
    convolutions = [name for name in layers if name.endswith("Conv")]
    last = convolutions[-1]  # between a quantized convolution and a quantized addition
    Plan(unlabeled.manifest.model_sha256, cpu_target(), (last,)).write(tmp_path / "p.json")
    built = build(unlabeled.path, tmp_path / "e.onnx", calib_data=dataset, plan=tmp_path / "p.json")
    assert built.sidecar.operators["QLinearConv"] == len(convolutions) - 1


def test_search_with_labels_limits_the_auroc_drop(bundle, dataset: Path, engines, tmp_path: Path):
    built = build(bundle.path, tmp_path / "e.onnx", calib=DAMAGED, max_drop=0.0)
    search = searched(built.plan)
    assert (search.measure, search.holds, search.images) == (Measure.IMAGE_AUROC, True, 12)
    assert search.data == str(dataset.resolve())
    auroc = []
    for path in (engines[Precision.FP32], built.path):
        with load_engine(path) as engine:
            values = []
            for category in sorted(dataset.iterdir()):
                images = sorted(category.glob("test/*/*.png"))
                scores = [engine.run(load_image(image, (SIZE, SIZE))[None]).scores[0] for image in images]
                values.append(roc_auc_score(["spot" in image.parts for image in images], scores))
        auroc.append(np.mean(values))
    chosen = drops(built.plan)[len(built.plan.float_layers)]
    assert chosen == pytest.approx(auroc[0] - auroc[1], abs=1e-9)
    assert chosen <= 0 < drops(built.plan)[0]
    notes = plan_table(built.plan).notes
    assert f"12 images of {dataset.resolve()}" in notes[0]


def test_all_layers_in_float32_reproduce_fp32(bundle, everything: Path, engines, dataset, tmp_path):
    built = build(bundle.path, tmp_path / "e.onnx", calib=DAMAGED, plan=everything)
    assert "QLinearConv" not in built.sidecar.operators
    images = np.stack([load_image(path, (SIZE, SIZE)) for path in sorted(dataset.rglob("test/*/*.png"))])
    with load_engine(engines[Precision.FP32]) as a, load_engine(built.path) as b:
        expected, measured = a.run(images), b.run(images)
    np.testing.assert_allclose(measured.maps, expected.maps, atol=1e-4 * expected.maps.max())


def test_unreachable_drop_is_rejected_and_leaves_no_files(
    unlabeled, dataset: Path, layers: List[str], tmp_path: Path, monkeypatch
):
    monkeypatch.setattr(
        "adq_edge.builders.mixed_precision.trials._ROUNDING", -1e9
    )  # FP32 itself exceeds the limit
    options = {"calib_data": dataset, "max_drop": 0.001}
    with pytest.raises(
        BuildError, match=r"no plan meets --max-drop 0\.001 \(map-error\): the smallest drop is"
    ) as caught:
        build(unlabeled.path, tmp_path / "out" / "e.onnx", **options)
    assert "\n" not in str(caught.value)
    assert f"with {len(layers)} of {len(layers)} layers in float32" in str(caught.value)
    assert not list(tmp_path.iterdir())
    built = build(unlabeled.path, tmp_path / "e.onnx", **options, keep_nearest=True)
    assert not searched(built.plan).holds
    assert set(built.sidecar.float_layers) == set(layers)
    assert "not reached; the nearest plan was taken" in plan_table(built.plan).notes[1]


def test_given_plan_builds_the_same_engine(built_to_a_drop, unlabeled, dataset: Path, tmp_path: Path):
    plan = plan_path(built_to_a_drop.path)
    again = build(unlabeled.path, tmp_path / "again.onnx", calib_data=dataset, plan=plan)
    assert sha256(again.path) == sha256(built_to_a_drop.path)
    assert again.sidecar.float_layers == built_to_a_drop.plan.float_layers
    assert (again.sidecar.plan.name, again.sidecar.plan.sha256) == (str(plan), sha256(plan))
    assert not plan_path(again.path).exists()


def test_good_int8_needs_no_float_layers(unlabeled, engines, dataset: Path, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    built = build(unlabeled.path, calib_data=dataset, max_drop=0.9)
    assert built.path == Path(f"engines/parts-int8-{DEFAULT_CALIBRATOR}.onnx")
    assert built.plan.float_layers == built.sidecar.float_layers == ()
    assert sha256(built.path) == sha256(engines[Precision.INT8])


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, StorageError("no space left")])
def test_interrupted_build_leaves_neither_engine_nor_plan(
    unlabeled, dataset: Path, tmp_path: Path, monkeypatch, interruption
):
    def stop(*_: object) -> None:
        raise interruption

    monkeypatch.setattr("adq_edge.artifacts.sidecar.Sidecar.write", stop)
    with pytest.raises(type(interruption) if isinstance(interruption, Exception) else interruption):
        build(unlabeled.path, tmp_path / "out" / "e.onnx", calib_data=dataset, max_drop=0.9)
    assert not list((tmp_path / "out").glob("*"))  # the folder may not exist


@pytest.mark.parametrize("gone", ["test", "test/spot", "", None])
def test_measure_depends_on_the_training_data(bundle, dataset, tmp_path: Path, monkeypatch, gone):
    """Without labels, normal images of the same folder or of the calibration are used."""
    root = write_dataset(tmp_path / "data")
    for folder in [] if gone is None else [root] if gone == "" else root.glob(f"*/{gone}"):
        shutil.rmtree(str(folder))
    manifest = dataclasses.replace(bundle.manifest, data=str(root))
    trained = dataclasses.replace(bundle, manifest=manifest)
    goal = set_goal(trained, 0.1, BuildOptions(calib_data=dataset if gone == "" else None))
    assert goal.measure is (Measure.IMAGE_AUROC if gone is None else Measure.MAP_ERROR)
    assert goal.folder == (dataset if gone == "" else root)
    assert (len(goal.images), goal.images.name) == (IMAGES, "images+synthetic-defects")


# --- refusals -----------------------------------------------------------------------------------------


def test_contradicting_options_are_rejected_before_reading_files(bundle, dataset, tmp_path: Path):
    for options, complaint in (
        ({"precision": "fp16", "max_drop": 0.1}, r"--max-drop is for INT8 engines only"),
        ({"precision": "fp32", "plan": "p.json"}, r"--plan is for INT8 engines only"),
        ({"plan": "p.json", "max_drop": 0.1}, r"--max-drop and --plan exclude each other"),
        ({"data": dataset}, r"--data is for the search for a plan only\. Add --max-drop DROP"),
        ({"keep_nearest": True}, r"--keep-nearest is for the search"),
        ({"max_drop": -0.001}, r"--max-drop is -0\.001\. Give 0 or more"),
        ({"max_drop": float("nan")}, r"--max-drop is nan"),
    ):
        with pytest.raises(BuildError, match=complaint):
            build(tmp_path / "no bundle", tmp_path / "e.onnx", **options)
    with pytest.raises(StorageError, match=r"p\.json: no such file"):
        build(bundle.path, tmp_path / "e.onnx", plan=tmp_path / "p.json")
    Plan(bundle.manifest.model_sha256, Target.TENSORRT, ()).write(tmp_path / "t.json")
    with pytest.raises(
        BuildError, match=r"t\.json: the plan is for the target tensorrt, the engine for \w+\. Find one"
    ):
        build(bundle.path, tmp_path / "e.onnx", plan=tmp_path / "t.json")
    root = write_dataset(tmp_path / "data", categories=1)
    shutil.rmtree(str(root / "part0" / "test" / "spot"))
    with pytest.raises(DataError, match=r"data: no category has both normal and defective test images\. Put"):
        build(bundle.path, tmp_path / "e.onnx", max_drop=0.1, data=root)
    assert not (tmp_path / "e.onnx").exists()
    assert not leftovers(tmp_path)


def adq(*arguments: object, cwd: Path) -> subprocess.CompletedProcess:
    return run_cli("build", *arguments, cwd=cwd)


def test_build_command_shows_steps_and_reports_errors_in_one_line(
    bundle, everything: Path, layers: List[str], tmp_path: Path
):
    other = tmp_path / "other.json"
    Plan("0" * 64, Target.X86, ()).write(other)
    before = sorted(tmp_path.iterdir())
    for arguments, complaint in (
        (["--fp32", "--max-drop", "0.1"], "--max-drop is for INT8 engines only"),
        (["--int8", "--max-drop", "-1"], "--max-drop is -1"),
        (["--int8", "--plan", other], "plan of another model"),
        (["--int8", "--max-drop", "0", "--data", "none"], "none: no such dataset folder"),
    ):
        result = adq(bundle.path, *arguments, cwd=tmp_path)
        assert result.returncode == 2, result.stderr
        assert [complaint in line for line in result.stderr.strip().splitlines()] == [True]
        assert sorted(tmp_path.iterdir()) == before
    result = adq(bundle.path, "--max-drop", "1", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "chosen" in result.stdout
    assert f"float32 layers: 0, as in parts-int8-{DEFAULT_CALIBRATOR}.onnx.plan.json" in result.stdout
    assert (tmp_path / "engines" / f"parts-int8-{DEFAULT_CALIBRATOR}.onnx.plan.json").is_file()
    result = adq(bundle.path, "--plan", everything, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert f"float32 layers: {len(layers)}, as in {everything}" in result.stdout
    assert (tmp_path / "engines" / f"parts-int8-{DEFAULT_CALIBRATOR}-mixed.onnx").is_file()


def test_a_limit_that_no_integer_layer_meets_gives_a_float32_engine(unlabeled, dataset, tmp_path: Path):
    built = build(unlabeled.path, tmp_path / "e.onnx", calib_data=dataset, max_drop=1e-4)
    assert (built.sidecar.precision, built.plan) == (Precision.FP32, None)
    assert "QLinearConv" not in built.sidecar.operators
    assert built.notes[0] == "no layer can be INT8 within --max-drop 0.0001 (map-error): this engine is FP32"
