"""A new CPU runtime needs a class of engines and one registration: a toy runtime shows it."""

from __future__ import annotations

import dataclasses
import platform
from importlib import metadata
from pathlib import Path
from typing import Iterator

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner

from adq_edge.artifacts.bundle import Bundle
from adq_edge.benchmark.bench import bench
from adq_edge.builders.build import BuiltEngine, build
from adq_edge.core import runtimes
from adq_edge.core.errors import AdqError, BuildError, EngineError, MissingDependencyError
from adq_edge.core.images.imaging import load_image
from adq_edge.core.runtimes import RUNTIMES, find_runtime
from adq_edge.evaluation.evaluate import evaluate
from adq_edge.evaluation.predict import predict
from adq_edge.hardware.commands import Outcome
from adq_edge.hardware.diagnosis import find_capabilities
from adq_edge.hardware.environment import read_environment
from adq_edge.hardware.inventory import take_inventory
from adq_edge.runtimes.registry import load_engine
from factories.tiny_engine import write_engine
from factories.tiny_method import export_tiny
from factories.toy_runtime import TOY, ToyEngine


@pytest.fixture(scope="module", autouse=True)
def toy() -> Iterator[None]:
    """Register the toy runtime."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(RUNTIMES, TOY.name, TOY)
        yield


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, dataset: Path) -> Bundle:
    return export_tiny(tmp_path_factory.mktemp("tiny"), "tiny", dataset)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, bundle: Bundle) -> BuiltEngine:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("workspace"))
        engine = build(bundle.path, precision="fp32", runtime="toy")
        return engine._replace(path=engine.path.resolve())


@pytest.mark.parametrize(
    ("machine", "version", "is_refused"),
    [("aarch64", "1.19.2", True), ("aarch64", "1.23.2", False), ("x86_64", "1.19.2", False)],
)
def test_onnxruntime_that_would_end_the_process_is_not_imported(
    monkeypatch, tmp_path, machine: str, version: str, is_refused: bool
):
    """As ONNX Runtime 1.19 on Arm where /sys is hidden: it calls abort, which no exception handler sees."""
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(metadata, "version", lambda name: version)
    monkeypatch.setattr(runtimes, "_PROCESSORS", tmp_path / "possible")
    if is_refused:
        with pytest.raises(
            MissingDependencyError, match=r"where /sys is hidden\. Start the container with"
        ) as error:
            runtimes.load_library(RUNTIMES["onnxruntime"])
        assert "\n" not in str(error.value)
        (tmp_path / "possible").write_text("0-5")
    assert runtimes.load_library(RUNTIMES["onnxruntime"]).__name__ == "onnxruntime"


def test_build_writes_an_engine_for_the_runtime(built: BuiltEngine):
    assert built.path.name == "tiny-fp32.toy"
    sidecar = built.sidecar
    assert (sidecar.runtime, sidecar.runtime_version, sidecar.device) == ("toy", onnx.__version__, "cpu")
    assert list(sidecar.operators) == ["toy"], "the pass of the runtime was not applied"


def test_load_gives_the_results_of_the_bundle_s_model(built: BuiltEngine, bundle: Bundle, dataset: Path):
    image = load_image(next(dataset.rglob("*.png")), built.sidecar.image_size)[None]
    build(bundle.path, built.path.with_suffix(".onnx"), precision="fp32")
    with load_engine(built.path) as engine, load_engine(built.path.with_suffix(".onnx")) as reference:
        assert isinstance(engine, ToyEngine)
        np.testing.assert_allclose(engine.run(image).maps, reference.run(image).maps, rtol=1e-3, atol=1e-4)


def test_evaluation_and_prediction_use_the_runtime(built: BuiltEngine, dataset: Path, tmp_path: Path):
    evaluation = evaluate(built.path, dataset, output=tmp_path / "toy.eval.json")
    assert evaluation.runtime == f"toy {onnx.__version__}"
    images = sorted(dataset.rglob("test/good/*.png"))[:2]
    with load_engine(built.path, runtime="toy") as engine:
        predictions = list(predict(engine, images, output=None))
    assert [prediction.error for prediction in predictions] == [None, None]
    assert read_environment().packages["toy"] == onnx.__version__


def test_doctor_reports_the_runtime():
    capabilities = find_capabilities(take_inventory(run=lambda command: Outcome(problem="was not run")))
    assert "CPU engines, Toy" in [capability.name for capability in capabilities]


def test_command_line_takes_the_name(built: BuiltEngine, dataset: Path, tmp_path: Path):
    from adq_edge.cli import app

    image = next(dataset.rglob("*.png"))
    arguments = ["predict", str(built.path), str(image), "--output", str(tmp_path), "--runtime"]
    done = CliRunner().invoke(app, [*arguments, "toy"])
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize("runtime", ["onnxruntime", "tensorrt"])
def test_engines_of_another_file_format_are_rejected(built: BuiltEngine, runtime: str, tmp_path: Path):
    with pytest.raises(EngineError, match=f"built for toy, {runtime} cannot load it. Omit --runtime"):
        load_engine(built.path, runtime=runtime)
    with pytest.raises(EngineError, match="built for onnxruntime, toy cannot load it"):
        load_engine(write_engine(tmp_path / "tiny.onnx"), runtime="toy")


def test_unknown_runtime_is_rejected_with_the_known_names(built: BuiltEngine, bundle: Bundle):
    known = "onnxruntime, openvino, tensorrt, tensorrt-rtx, tensorrt-emulation, toy"
    message = f"'nonsense' is not a runtime. Use one of: {known}."
    for call in (
        lambda: find_runtime("nonsense"),
        lambda: load_engine(built.path, runtime="nonsense"),
        lambda: build(bundle.path, runtime="nonsense"),
        lambda: bench(built.path, runtime="nonsense"),
    ):
        with pytest.raises(AdqError) as caught:
            call()
        assert str(caught.value) == message
    with pytest.raises(BuildError, match="tensorrt does not run on a CPU"):
        build(bundle.path, device="cpu", runtime="tensorrt")


def test_missing_library_says_what_to_install(built: BuiltEngine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(RUNTIMES, "toy", dataclasses.replace(TOY, library="no_such_module"))
    with pytest.raises(MissingDependencyError) as caught:
        load_engine(built.path)
    assert str(caught.value) == "Toy is not installed for this Python. Install it: pip install toy."
