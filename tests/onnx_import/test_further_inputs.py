"""Models with inputs beside the image, and with outputs that are neither map nor score."""

from __future__ import annotations

import json
from pathlib import Path
from typing import List

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from adq_edge.artifacts.bundle import open_bundle
from factories.command_line import run_cli
from factories.foreign_models import MEAN, STD, GraphWriter, save

SIZE = 32
IMAGES = np.random.default_rng(3).integers(0, 256, (2, SIZE, SIZE, 3), dtype=np.uint8)


def write(path: Path, *, threshold: bool = True, scales: bool = False, second_image: bool = False) -> Path:
    """Write a model with a threshold for its mask, a factor of its map, and a second image."""
    writer = GraphWriter()
    image = writer.add("Div", writer.add("Sub", "x", MEAN), STD)
    if second_image:
        image = writer.add("Sub", image, "golden")
    found = writer.network(image)
    found = writer.add("Mul", found, "factor") if scales else found
    writer.add("Identity", found, output="map")
    outputs = {"map": ["N", 1, 8, 8]}
    inputs = {}
    if threshold:
        writer.add("Greater", found, "threshold", output="mask")
        outputs["mask"] = (TensorProto.BOOL, ["N", 1, 8, 8])
        inputs["threshold"] = []
    logits = writer.reduce("ReduceMean", writer.add("Concat", found, found, axis=1), [2, 3], keepdims=0)
    writer.add("Identity", logits, output="classes")
    outputs["classes"] = ["N", 2]
    inputs.update({"factor": ["N", 1, 1, 1]} if scales else {})
    inputs.update({"golden": ["N", 3, SIZE, SIZE]} if second_image else {})
    model = writer.model({**inputs, "x": ["N", 3, SIZE, SIZE]}, outputs)
    return save(model, path)


def run(model: Path, output: str, **inputs: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    return np.asarray(session.run([output], {name: np.asarray(value) for name, value in inputs.items()})[0])


def pixels() -> np.ndarray:
    return (IMAGES / 255).transpose(0, 3, 1, 2).astype(np.float32)


def test_input_that_only_a_mask_needs_is_left_out_and_unused_outputs_are_named(tmp_path: Path):
    source = write(tmp_path / "m.onnx")
    inspected = json.loads(run_cli("import", source, "--inspect", "--json", cwd=tmp_path).stdout)
    assert inspected["imported"]["unused"] == ["mask bool [N, 1, 8, 8]", "classes float [N, 2]"]
    shown = run_cli("import", source, "-o", "bundle", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "unused: mask bool [N, 1, 8, 8], classes float [N, 2]" in shown.stdout
    model = open_bundle(tmp_path / "bundle").model
    expected = run(source, "map", x=pixels(), threshold=np.float32(0.5))
    np.testing.assert_allclose(run(model, "anomaly_map", image=IMAGES), expected[:, 0], rtol=1e-3)


def test_input_with_a_stated_value_is_a_constant(tmp_path: Path):
    source = write(tmp_path / "m.onnx", scales=True)
    refused = run_cli("import", source, "-o", "bundle", cwd=tmp_path)
    assert refused.returncode == 2
    assert "depends on further inputs: factor float [?, 1, 1, 1]" in refused.stderr
    assert "--input factor=VALUE" in refused.stderr
    shown = run_cli("import", source, "-o", "bundle", "--input", "factor=2.5", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    factor, threshold = np.full((2, 1, 1, 1), 2.5, np.float32), np.float32(0)
    expected = run(source, "map", x=pixels(), factor=factor, threshold=threshold)
    found = run(open_bundle(tmp_path / "bundle").model, "anomaly_map", image=IMAGES)
    np.testing.assert_allclose(found, expected[:, 0], rtol=1e-3)


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ([], "several of which can take images"),
        (["--input", "x"], "depends on further inputs: golden float"),
        (["--input", "x", "--input", "golden"], "names 2 inputs for images: x, golden"),
        (["--input", "y=1"], "has no input 'y'; its inputs: "),
        (["--input", "threshold=1,2"], "--input threshold has 2 values; the input is float []"),
        (["--input", "threshold=low"], "--input threshold is 'low'"),
        (["--input", "switch=1.5"], "--input switch has a value that int64 cannot hold"),
        (["--input", "switch=1e40"], "--input switch has a value that int64 cannot hold"),
        (["--input", "word=1"], "--input word has numbers; the input is string"),
        (["--layout", "mvtec-ad"], "--data-layout mvtec-ad"),
    ],
)
def test_inputs_that_are_not_clear_are_refused_in_one_line(option: List[str], text: str, tmp_path: Path):
    source = write(tmp_path / "m.onnx", second_image=True)
    model = onnx.load(str(source))
    for name, kind in (("switch", TensorProto.INT64), ("word", TensorProto.STRING)):
        model.graph.input.append(helper.make_tensor_value_info(name, kind, []))
    save(model, source)
    ended = run_cli("import", source, "-o", "bundle", *option, cwd=tmp_path)
    assert (ended.returncode, len(ended.stderr.strip().splitlines())) == (2, 1)
    assert text in ended.stderr
    assert not (tmp_path / "bundle").exists()
