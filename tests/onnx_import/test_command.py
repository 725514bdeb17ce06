"""The verb `import`: what it prints and what it refuses, with exit code 2."""

from __future__ import annotations

import json
from pathlib import Path
from typing import List

import pytest
from onnx import TensorProto, helper

from adq_edge.artifacts.bundle import open_bundle
from factories.command_line import run_cli
from factories.foreign_models import GraphWriter, anomalib_model, plain_model, save

SIZE = 32


def test_inspect_shows_what_is_recognized_and_writes_nothing(tmp_path: Path):
    source = anomalib_model(tmp_path / "padim" / "model.onnx")
    found = json.loads(run_cli("import", source, "--inspect", "--json", cwd=tmp_path).stdout)
    assert (found["arch"], found["image_size"], found["map_size"]) == ("padim", [SIZE, SIZE], [SIZE, SIZE])
    assert found["int8"]["operators"] == {"Conv": 2}
    assert found["int8"]["share"] == 1.0
    assert "2 Conv" in run_cli("import", source, "--inspect", cwd=tmp_path).stdout
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["model.onnx", "padim"]


def test_export_of_an_onnx_file_imports_it(tmp_path: Path):
    source = plain_model(tmp_path / "camera.onnx")
    printed = run_cli("export", source, "-o", "bundle", cwd=tmp_path).stdout
    assert "assumed: channels are in the order RGB" in printed
    assert open_bundle(tmp_path / "bundle").manifest.arch == "imported"


def test_export_of_an_onnx_file_refuses_options_of_checkpoints(tmp_path: Path):
    source = plain_model(tmp_path / "camera.onnx")
    ended = run_cli("export", source, "--layers", "layer3", cwd=tmp_path)
    assert ended.returncode == 2
    assert "--layers is for checkpoints" in ended.stderr
    assert not (tmp_path / "bundles").exists()


def _two_maps() -> GraphWriter:
    writer = GraphWriter()
    for name in ("first", "second"):
        writer.add("Identity", writer.network("x"), output=name)
    return writer


REFUSED = {
    "any size": ("takes images of any height and width", "--image-size"),
    "two maps": ("2 outputs that can be the map", "--map-output first"),
    "loop": ("has loops (Loop)", "without loops"),
    "custom": ("not part of ONNX: mine.Distance", "ONNX operators only"),
    "mixes": ("combines all images to one value", "each image is judged alone"),
    "first of two images": ("compares images with each other", "each image is judged alone"),
    "two inputs": ("has 2 inputs", "--input NAME=VALUE for each of the others"),
    "web page": ("a web page, not an ONNX model", "Name an ONNX model"),
}


def write(case: str, path: Path) -> Path:
    if case == "web page":
        path.write_text("<html>404</html>")
        return path
    if case == "any size":
        return plain_model(path, size="h")
    shape = {"x": [2 if case == "first of two images" else "N", 3, SIZE, SIZE]}
    if case == "two maps":
        return save(_two_maps().model(shape, {name: ["N", 1, 8, 8] for name in ("first", "second")}), path)
    writer = GraphWriter()
    found = writer.network("x")
    if case == "mixes":
        found = writer.add("Sub", found, writer.reduce("ReduceMean", found, [0], keepdims=1))
    if case == "first of two images":
        found = writer.add("Sub", found, writer.add("Gather", found, 0))
    writer.add("Identity", found, output="map")
    model = writer.model(shape, {"map": [shape["x"][0], 1, 8, 8]})
    if case == "two inputs":
        other = helper.make_tensor_value_info("other", TensorProto.FLOAT, ["N", 3, SIZE, SIZE])
        model.graph.input.append(other)
    elif case == "custom":
        model.opset_import.append(helper.make_opsetid("mine", 1))
        model.graph.node[-1].op_type, model.graph.node[-1].domain = "Distance", "mine"
    elif case == "loop":
        model.graph.node[-1].op_type = "Loop"
    return save(model, path)


@pytest.mark.parametrize("case", REFUSED)
def test_model_that_cannot_be_imported_is_refused_in_one_line(case: str, tmp_path: Path):
    source = write(case, tmp_path / "model.onnx")
    ended = run_cli("import", source, "-o", "bundle", cwd=tmp_path)
    lines: List[str] = ended.stderr.strip().splitlines()
    assert ended.returncode == 2
    assert len(lines) == 1
    for text in REFUSED[case]:
        assert text in lines[0]
    assert str(source) in lines[0]
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize(
    ("option", "text"),
    [
        (["--layout", "hwc"], "--layout is 'hwc'"),
        (["--image-size", "big"], "--image-size is 'big'"),
        (["--mean", "0.5"], "--mean and --std belong together"),
        (["--scale", "0"], "--scale is not a positive number"),
        (["--map-output", "other"], "--map-output is 'other'; float outputs: map"),
        (["--image-size", "64"], "--image-size is 64x64, the model is made for 32x32"),
    ],
)
def test_wrong_option_is_named(option: List[str], text: str, tmp_path: Path):
    source = plain_model(tmp_path / "model.onnx")
    ended = run_cli("import", source, *option, cwd=tmp_path)
    assert ended.returncode == 2
    assert text in ended.stderr
