"""`build` on small images, and loading of the engines."""

from __future__ import annotations

import json
import platform
import shutil
from pathlib import Path
from typing import Any, Callable, List

import numpy as np
import onnxruntime
import pytest

import adq_edge
from adq_edge.artifacts.sidecar import read_sidecar, sidecar_path
from adq_edge.builders.build import build
from adq_edge.builders.cpu import describe_openvino_kernels
from adq_edge.builders.output import check_suffix
from adq_edge.core.errors import (
    BuildError,
    BundleError,
    CalibrationError,
    DataError,
    EngineError,
    MissingDependencyError,
    StorageError,
)
from adq_edge.core.files import sha256
from adq_edge.core.images.imaging import load_image
from adq_edge.core.options import COMMON_PRECISIONS, Precision
from adq_edge.core.runtimes import ONNXRUNTIME, TENSORRT, Runtime
from adq_edge.quantization.equalization import equalize
from adq_edge.quantization.region import find_region
from adq_edge.runtimes.registry import load_engine
from factories.images import SIZE, leftovers


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
@pytest.mark.parametrize("precision", COMMON_PRECISIONS)
def test_engines_agree_with_the_float_model(engines, bundle, dataset: Path, precision, runtime):
    if runtime == "openvino":
        pytest.importorskip("openvino")
    session = onnxruntime.InferenceSession(str(bundle.model), providers=["CPUExecutionProvider"])
    expected, *_ = session.run(None, {"image": images(dataset)})
    with load_engine(engines[precision], runtime=runtime, threads=2) as engine:
        output = engine.run(images(dataset))
        one_by_one = np.concatenate([engine.run(image[None]).scores for image in images(dataset)])
    tolerance = {Precision.FP32: 1e-4, Precision.FP16: 0.01, Precision.INT8: 0.35}[precision]
    assert np.abs(output.maps - expected).max() <= tolerance * expected.max()
    np.testing.assert_allclose(output.scores, output.maps.max((1, 2)), rtol=1e-6)
    np.testing.assert_allclose(
        one_by_one, output.scores, rtol=1e-4 if precision is not Precision.INT8 else 0.02
    )


@pytest.mark.skipif(platform.machine() != "x86_64", reason="on Arm most layers are float")
def test_note_names_onnxruntime_where_openvino_computes_most_layers_in_float(engines):
    pytest.importorskip("openvino")
    with load_engine(engines[Precision.INT8], runtime="openvino", threads=1) as engine:
        operators = engine.operators()
    assert describe_openvino_kernels(operators) == ()
    on_arm = {"Convolution:f32": 22, "Convolution:i8": 8, "MatMul:f32": 9, "Subgraph:i8": 11}
    (note,) = describe_openvino_kernels(on_arm)  # as OpenVINO 2026.4 counted them on emulated Arm
    assert "computes 8 of 30 layers" in note
    assert note.endswith("build it with --runtime onnxruntime")


@pytest.mark.parametrize(("kind", "searches"), [("bundle", 2), ("tiny_bundle", 3)])
def test_build_searches_each_graph_for_its_networks_once(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str, searches: int
):
    """The graphs are the bundle's, the equalized one, and the one without transposed convolutions."""
    calls: List[str] = []

    def counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *arguments: calls.append(name) or function(*arguments)

    for room in ("region", "float_model", "passes.strong_typing"):
        monkeypatch.setattr(f"adq_edge.quantization.{room}.find_region", counted("search", find_region))
    for room in ("calibrate", "calibrated_model"):
        monkeypatch.setattr(f"adq_edge.calibration.{room}.equalize", counted("equalize", equalize))
    path, engines = request.getfixturevalue(kind).path, [tmp_path / "first.onnx", tmp_path / "second.onnx"]
    fresh = shutil.ignore_patterns("ranges") if kind == "tiny_bundle" else None
    shutil.copytree(str(path), str(tmp_path / "b"), ignore=fresh)
    for number, engine in enumerate(engines):  # the second build reuses ranges and rounded weights
        calls.clear()
        build(tmp_path / "b", engine)
        assert calls.count("search") == searches, number
        assert calls.count("equalize") == 1, number
    assert engines[0].read_bytes() == engines[1].read_bytes()


def test_random_normal_calibration_needs_no_images(tiny_bundle, tmp_path: Path):
    built = build(
        tiny_bundle.path, tmp_path / "e.onnx", calib="minmax", calib_data="random-normal", samples=3
    )
    assert built.sidecar.calibration.source == "random-normal"


def test_build_uses_calibration_data_folder_by_default(
    tiny_bundle, tmp_path: Path, monkeypatch, dataset: Path
):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(str(dataset / "part0" / "train" / "good"), "calibration_data")
    built = build(tiny_bundle.path, calib="percentile:99.9")
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
    with pytest.raises(
        BundleError, match=r"a folder, not a bundle\. Give a folder that `adq-edge export` wrote"
    ):
        build(tmp_path)
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
    assert not list(tmp_path.iterdir())


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
        ("another format", "is not an ONNX file"),
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
    with pytest.raises(MissingDependencyError, match=r"pip install openvino"):
        load_engine(engines[Precision.FP32], runtime="openvino")


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


@pytest.mark.parametrize("name", ["x.png", "x.onnx.json", "x.pt", "x.plan", "x.Html", "x.onnx.products"])
def test_build_rejects_the_suffix_of_another_kind_of_file(bundle, tmp_path: Path, name: str):
    suffix = Path(name).suffix
    with pytest.raises(BuildError) as caught:
        build(bundle.path, tmp_path / name, precision="fp32")
    assert str(caught.value) == (
        f"{tmp_path / name}: the suffix of an engine for ONNX Runtime is .onnx, not {suffix}. "
        f"Name it {tmp_path / 'x.onnx'}."
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("runtime", "names"),
    [
        (ONNXRUNTIME, ["x", "x.onnx", "x.ONNX", "parts-v1.5", "parts.v2", "line.left"]),
        (TENSORRT, ["x", "x.plan", "x.engine", "x.trt", "parts.int8"]),
    ],
)
def test_names_of_engines_that_say_no_other_kind_are_accepted(runtime: Runtime, names: List[str]):
    for name in names:
        check_suffix(Path(name), runtime)


def test_tensorrt_engine_with_the_suffix_of_an_onnx_file_is_rejected():
    with pytest.raises(BuildError, match=r"an engine for TensorRT is \.plan, not \.onnx\. Name it x\.plan"):
        check_suffix(Path("x.onnx"), TENSORRT)
