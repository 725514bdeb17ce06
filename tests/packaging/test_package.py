"""Packages: which files they hold, that they are whole or not there, and what is refused."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import subprocess
import sys
import types
from pathlib import Path
from typing import Any, Callable, Dict, List

import numpy as np
import onnxruntime
import pytest

from adq_edge.artifacts.products import products_path
from adq_edge.artifacts.sidecar import Sidecar, TensorRTDetails, sidecar_path
from adq_edge.core.errors import AdqError
from adq_edge.core.options import Precision
from adq_edge.decision.inspector import load_inspector
from adq_edge.packaging.outputs_only import judge_outputs, load_judge
from adq_edge.packaging.package import Package, PackageTarget, package
from adq_edge.packaging.triton_verdict import TritonPythonModel
from factories.command_line import run_cli
from factories.decisions import defective_image, good_image, products_of, random_product
from factories.serving import write_fitted_engine
from factories.tiny_engine import SIZE, write_engine, write_file

TENSORRT = TensorRTDetails("explicit", "8.7", 4, None, None, (), 64, 1.0, None, ())
IMAGES = np.stack([good_image("bolt", 1), defective_image("nut", 2), np.full((SIZE, SIZE, 3), 255, np.uint8)])


def described(engine: Path, **changes: Any) -> Path:
    """Change the sidecar of an engine, and the runtime of its products."""
    dataclasses.replace(Sidecar.read(sidecar_path(engine)), **changes).write(sidecar_path(engine))
    if "runtime" in changes and products_path(engine).exists():
        text = products_path(engine).read_text()
        products_path(engine).write_text(text.replace('"onnxruntime"', f'"{changes["runtime"]}"'))
    return engine


def engine_for(target: str, folder: Path) -> Path:
    """Write an engine of the runtime that a target needs."""
    name = "parts-int8.plan" if target == "tensorrt" else "parts-int8.onnx"
    engine = write_fitted_engine(folder / name)
    if target == "tensorrt":
        return described(engine, runtime="tensorrt", device="jetson", tensorrt=TENSORRT)
    return described(engine, runtime="openvino") if target == "ovms" else engine


@pytest.mark.parametrize("target", [one.value for one in PackageTarget])
def test_package_names_the_engine_and_the_hash_of_each_file(tmp_path: Path, target: str):
    engine = engine_for(target, tmp_path)
    folder = tmp_path / "package"
    found = package(engine, target, folder)
    assert Package.read(folder / "package.json") == found
    on_disk = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert on_disk == {*found.files, "package.json", "SHA256SUMS"}
    for path, digest in found.files.items():
        assert hashlib.sha256((folder / path).read_bytes()).hexdigest() == digest
    check = ["sha256sum", "--check", "--quiet", "SHA256SUMS"]
    assert subprocess.run(check, cwd=str(folder)).returncode == 0
    readme = (folder / "README.md").read_text()
    assert hashlib.sha256(engine.read_bytes()).hexdigest() in readme
    assert "```sh" in readme
    assert not re.search(r"{[{%]", readme)


@pytest.mark.parametrize("target", ["triton", "cpp", "deepstream"])
def test_tensorrt_engine_is_packaged_for_what_runs_tensorrt(tmp_path: Path, target: str):
    engine = engine_for("tensorrt", tmp_path)
    found = package(engine, target, tmp_path / "package")
    assert found.runtime == "tensorrt"
    plans = [path for path in found.files if path.endswith(".plan")]
    assert (tmp_path / "package" / plans[0]).read_bytes() == engine.read_bytes()
    if target == "cpp":
        assert "NvInfer.h" in (tmp_path / "package" / "main.cpp").read_text()
    if target == "deepstream":
        assert "tensor-data-type=1\n" in (tmp_path / "package" / "preprocess.txt").read_text()


def parse_configs(folder: Path) -> Dict[str, Any]:
    """Return the configurations of a Triton repository, parsed by Triton's own format."""
    triton = pytest.importorskip("tritonclient", reason="tritonclient is a tool for developers")
    import importlib.util

    from google.protobuf import text_format

    # Not as a part of tritonclient.grpc, which imports grpc.
    path = Path(triton.__path__[0]) / "grpc" / "model_config_pb2.py"
    spec = importlib.util.spec_from_file_location("model_config_pb2", str(path))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {
        file.parent.name: text_format.Parse(file.read_text(), module.ModelConfig())
        for file in folder.glob("models/*/config.pbtxt")
    }


@pytest.mark.parametrize(("kind", "batch"), [("onnxruntime", 8), ("tensorrt", 4), ("openvino", 0)])
def test_triton_configurations_fit_together(tmp_path: Path, kind: str, batch: int):
    engine = engine_for({"openvino": "ovms"}.get(kind, kind), tmp_path)
    package(engine, "triton", tmp_path / "package")
    configs = parse_configs(tmp_path / "package")
    assert sorted(configs) == ["parts-int8", "parts-int8-inspect", "parts-int8-verdict"]
    assert {one.max_batch_size for one in configs.values()} == {batch}
    model, ensemble = configs["parts-int8"], configs["parts-int8-inspect"]
    assert (model.name, model.backend, model.model_warmup[0].name) == ("parts-int8", kind, "blank")
    first = [] if batch else [-1]
    shapes = {one.name: list(one.dims) for one in (*model.input, *model.output)}
    assert shapes["image"] == [*first, SIZE, SIZE, 3]
    assert shapes["anomaly_map"] == [*first, SIZE, SIZE]
    score = next(one for one in model.output if one.name == "anomaly_score")
    assert (list(score.dims), score.HasField("reshape")) == (([1], True) if batch else ([-1], False))
    tensors = {one.name for one in ensemble.input}
    for step in ensemble.ensemble_scheduling.step:
        inner = configs[step.model_name]
        assert {one.name for one in inner.input} == set(step.input_map)
        assert {one.name for one in inner.output} == set(step.output_map)
        assert set(step.input_map.values()) <= tensors
        tensors |= set(step.output_map.values())
    assert {one.name for one in ensemble.output} <= tensors


class FakeTensor:
    def __init__(self, name: str, array: np.ndarray) -> None:
        self.name, self.array = name, array

    def as_numpy(self) -> np.ndarray:
        return self.array


def stand_in_backend() -> types.ModuleType:
    """Return a stand-in for the module that only Triton's server has."""
    module: Any = types.ModuleType("triton_python_backend_utils")
    module.Tensor = FakeTensor
    module.TritonError = str
    module.InferenceResponse = lambda output_tensors=(), error=None: (output_tensors, error)
    module.get_input_tensor_by_name = lambda request, name: request.get(name)
    return module


@pytest.mark.parametrize("write", [write_fitted_engine, None], ids=["embedding", "thumbnail"])
def test_verdict_model_of_triton_gives_the_predictions_of_the_inspector(
    tmp_path: Path, write: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", stand_in_backend())
    engine = (
        write_with_thumbnails(tmp_path / "parts-int8.onnx") if write is None else write(tmp_path / "e.onnx")
    )
    package(engine, "triton", tmp_path / "package")
    folder = tmp_path / "package" / "models" / f"{engine.stem}-verdict"
    model = TritonPythonModel()
    model.initialize({"model_repository": str(folder), "model_version": "1"})
    with load_inspector(engine) as inspector:
        output = inspector.engine.run(IMAGES)
        arrays = dict(zip(inspector.engine.outputs, output.arrays))
        expected = [inspector.inspect(image) for image in IMAGES]
    arrays["anomaly_score"] = arrays["anomaly_score"][:, None]  # with batches, Triton adds an axis
    request = {name: FakeTensor(name, array) for name, array in {**arrays, "image": IMAGES}.items()}
    (tensors, error), (_, refused) = model.execute([request, {}])
    assert error is None
    found = {one.name: one.array.ravel().tolist() for one in tensors}
    assert found["verdict"] == [one.verdict.value.encode() for one in expected]
    assert found["product"] == [(one.product or "").encode() for one in expected]
    assert json.loads(found["prediction"][1])["regions"] == [one.fields() for one in expected[1].regions]
    assert "missing" in refused


def write_with_thumbnails(path: Path) -> Path:
    """Write an engine without an embedding, with a product."""
    write_engine(path)
    product = random_product(deep_size=(16, 16), embedding=192)
    products_of(hashlib.sha256(path.read_bytes()).hexdigest(), product).write(products_path(path))
    return path


def test_outputs_of_another_size_are_refused(tmp_path: Path):
    judge = load_judge(write_with_thumbnails(tmp_path / "e.onnx"))
    arrays = {"anomaly_map": np.ones((1, SIZE, SIZE)), "anomaly_score": np.ones(1)}
    assert judge_outputs(judge, arrays, IMAGES[:1])[0].product == "bolt"
    with pytest.raises(AdqError, match="the images are missing"):
        judge_outputs(judge, arrays)
    with pytest.raises(AdqError, match="anomaly_map is missing or of another size"):
        judge_outputs(judge, {**arrays, "anomaly_map": np.ones((1, 4, 4))}, IMAGES[:1])
    with pytest.raises(AdqError, match="2 images, and outputs for 1"):
        judge_outputs(judge, arrays, IMAGES[:2])


def test_deepstream_model_with_float_planes_gives_the_outputs_of_the_engine(tmp_path: Path):
    engine = write_fitted_engine(tmp_path / "parts.onnx")
    package(engine, "deepstream", tmp_path / "package")
    content = (tmp_path / "package" / "model_float_nchw.onnx").read_bytes()
    planes = np.ascontiguousarray(IMAGES.transpose(0, 3, 1, 2), np.float32)
    found = onnxruntime.InferenceSession(content).run(None, {"image": planes})
    expected = onnxruntime.InferenceSession(engine.read_bytes()).run(None, {"image": IMAGES})
    assert all(np.array_equal(a, b) for a, b in zip(found, expected))
    text = (tmp_path / "package" / "nvinfer.txt").read_text()
    assert f"infer-dims=3;{SIZE};{SIZE}\n" in text


def test_ovms_configuration_compiles_the_model_and_gives_the_outputs_of_the_engine(tmp_path: Path):
    openvino = pytest.importorskip("openvino", reason="OpenVINO is not installed")
    engine = engine_for("ovms", tmp_path)
    package(engine, "ovms", tmp_path / "package")
    models = tmp_path / "package" / "models"
    config = json.loads((models / "config.json").read_text())["model_config_list"][0]["config"]
    assert (config["name"], config["layout"]) == ("parts-int8", {"image": "NHWC"})
    path = models / Path(config["base_path"]).relative_to("/models") / "1" / "model.onnx"
    compiled = openvino.Core().compile_model(str(path), "CPU", config["plugin_config"])
    found = compiled([IMAGES[:2]])["anomaly_score"]
    judge = load_judge(tmp_path / "package" / "client" / "parts-int8.onnx")
    expected = onnxruntime.InferenceSession(engine.read_bytes()).run(["anomaly_score"], {"image": IMAGES[:2]})
    assert np.allclose(found, expected[0], rtol=1e-5)
    assert judge.products == ("bolt", "nut")


def test_services_run_the_server_and_with_a_station_file_the_station(tmp_path: Path):
    yaml = pytest.importorskip("yaml", reason="PyYAML comes with the tools for the documentation")
    engine = write_fitted_engine(tmp_path / "parts-int8.onnx")
    station = tmp_path / "line 3.toml"
    station.write_text("[station]\nname = 'line 3'\n")
    package(engine, "compose", tmp_path / "compose", station=station)
    services = yaml.safe_load((tmp_path / "compose" / "compose.yaml").read_text())["services"]
    assert services["serve"]["command"][:2] == ["serve", "/package/engine/parts-int8.onnx"]
    assert services["run"]["command"] == ["run", "/package/station.toml"]
    assert (tmp_path / "compose" / "station.toml").read_text() == station.read_text()
    package(engine, "systemd", tmp_path / "systemd", station=station)
    unit = (tmp_path / "systemd" / "adq-edge-run.service").read_text()
    assert "ExecStart=/opt/adq-edge/venv/bin/adq-edge run /opt/adq-edge/parts-int8/station.toml\n" in unit
    without = package(engine, "systemd", tmp_path / "without")
    assert "adq-edge-run.service" not in without.files


@pytest.mark.parametrize(
    "line",
    [
        "password = 'hunter2 and more'",
        'token = "0123456789abcdef"',
        'sinks.mes.secret = "whsec_MTIz"',
        'headers = { Authorization = "Bearer abcdef" }',
        'headers = { "X-Api-Key" = "abcdef" }',
        'device = "rtsp://admin:hunter2@10.0.0.7/stream"',
    ],
)
def test_a_station_file_with_a_secret_is_not_copied(tmp_path: Path, line: str):
    engine, station = write_fitted_engine(tmp_path / "parts-int8.onnx"), tmp_path / "station.toml"
    station.write_text(f"[station]\n{line}\n")
    with pytest.raises(AdqError, match="holds a secret") as caught:
        package(engine, "systemd", tmp_path / "package", station=station)
    assert "${NAME}" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert not (tmp_path / "package").exists()


def test_services_get_the_environment_variables_that_a_station_file_names(tmp_path: Path):
    yaml = pytest.importorskip("yaml", reason="PyYAML comes with the tools for the documentation")
    engine, station = write_fitted_engine(tmp_path / "parts-int8.onnx"), tmp_path / "station.toml"
    station.write_text(
        "# password = 'an example'\n[sinks.mes]\npassword = '${MES}'\npassword_file = 'x'\n"
        "headers = { Authorization = 'Bearer ${MES_TOKEN}' }\n"
    )
    package(engine, "compose", tmp_path / "compose", station=station)
    services = yaml.safe_load((tmp_path / "compose" / "compose.yaml").read_text())["services"]
    assert services["run"]["environment"] == ["MES", "MES_TOKEN"]
    package(engine, "systemd", tmp_path / "systemd", station=station)
    unit = (tmp_path / "systemd" / "adq-edge-run.service").read_text()
    assert "EnvironmentFile=/opt/adq-edge/parts-int8/environment\n" in unit
    for folder in ("compose", "systemd"):
        assert "needs MES, MES_TOKEN" in (tmp_path / folder / "README.md").read_text()


def without_products(engine: Path) -> None:
    products_path(engine).unlink()


def change(engine: Path) -> None:
    engine.write_bytes(engine.read_bytes() + b" ")


@pytest.mark.parametrize(
    ("target", "spoil", "text"),
    [
        ("cpp", without_products, "has no products"),
        ("cpp", lambda engine: described(engine, runtime="openvino"), "an engine of openvino"),
        ("ovms", lambda engine: None, "OVMS runs engines of openvino"),
        ("triton", change, "not the file that"),
        ("deepstream", lambda engine: described(engine, precision=Precision.INT8), "an int8 engine for CPUs"),
        ("triton", lambda engine: described(engine, runtime="tensorrt-rtx"), "cannot be packaged"),
    ],
)
def test_what_a_target_cannot_run_is_refused_and_nothing_is_written(
    tmp_path: Path, target: str, spoil: Callable[[Path], Any], text: str
):
    engine = write_fitted_engine(tmp_path / "parts-int8.onnx")
    spoil(engine)
    with pytest.raises(AdqError, match=text):
        package(engine, target, tmp_path / "package")
    assert not (tmp_path / "package").exists()


def test_an_engine_without_products_is_packaged_for_triton_without_a_verdict(tmp_path: Path):
    found = package(write_engine(tmp_path / "plain.onnx"), "triton", tmp_path / "package")
    assert sorted(found.files) == ["README.md", "models/plain/1/model.onnx", "models/plain/config.pbtxt"]
    text = (tmp_path / "package" / "README.md").read_text()
    assert "neither products nor a threshold" in text
    assert "tritonserver:YY.MM-py3 tritonserver --model-repository" in text
    assert "triton-adq-edge" not in text  # the image with adq-edge, which only a verdict needs


def test_a_folder_with_other_files_is_kept_and_an_earlier_package_is_replaced(tmp_path: Path):
    engine = write_fitted_engine(tmp_path / "parts-int8.onnx")
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "thesis.txt").write_text("mine")
    with pytest.raises(AdqError, match="not a package of adq-edge"):
        package(engine, "cpp", folder)
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]
    (folder / "thesis.txt").unlink()
    package(engine, "cpp", folder)
    (folder / "notes.txt").write_text("mine")
    found = package(engine, "triton", folder)
    on_disk = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert on_disk == {*found.files, "package.json", "SHA256SUMS", "notes.txt"}


def test_an_earlier_package_cannot_name_files_outside_of_it(tmp_path: Path):
    engine = write_fitted_engine(tmp_path / "parts-int8.onnx")
    folder, outside = tmp_path / "package", tmp_path / "outside.txt"
    found = package(engine, "cpp", folder)
    outside.write_text("mine")
    dataclasses.replace(found, files={**found.files, "../outside.txt": "0", str(outside): "0"}).write(
        folder / "package.json"
    )
    package(engine, "triton", folder)
    assert outside.read_text() == "mine"


def test_a_full_disk_leaves_no_part_of_a_package(tmp_path: Path, full_disk: Callable[[], None]):
    engine = write_fitted_engine(tmp_path / "parts-int8.onnx")
    before = sorted(tmp_path.rglob("*"))
    full_disk()
    with pytest.raises(AdqError, match="no space left"):
        package(engine, "triton", tmp_path / "package")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--for", "tritton"], "'tritton' is not a target. Use triton, deepstream, ovms"),
        (["--for", "cpp", "--station", "a.toml"], "only systemd and compose take a station file"),
        (["--for", "compose", "--station", "a.toml"], "a.toml: no such file"),
        ([], "--for"),
    ],
)
def test_wrong_options_are_one_line_and_exit_code_2(tmp_path: Path, arguments: List[str], text: str):
    engine = write_fitted_engine(tmp_path / "parts-int8.onnx")
    done = run_cli("package", engine, *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert text in done.stderr.splitlines()[-1]
    assert not (tmp_path / "packages").exists()


def test_command_lists_the_files_and_names_the_readme(tmp_path: Path):
    write_fitted_engine(tmp_path / "engines" / "parts-int8.onnx")
    done = run_cli("package", "--for", "cpp", cwd=tmp_path)
    assert "packages/parts-int8-cpp/decision.txt" in done.stdout.splitlines()
    assert done.stderr == "next: read packages/parts-int8-cpp/README.md\n"
    strange = write_file(tmp_path / "a b.onnx", (tmp_path / "engines" / "parts-int8.onnx").read_bytes())
    done = run_cli("package", strange, "--for", "triton", cwd=tmp_path)
    assert "other characters than A-Z" in done.stderr
