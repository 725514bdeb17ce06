"""Bundles of models with known conventions give what the model gives on an input made by hand."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import List

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from adq_edge.core.errors import ForeignModelError
from adq_edge.onnx_import.import_model import import_model
from adq_edge.onnx_import.options import ImportOptions
from factories.foreign_models import MEAN, STD, GraphWriter, save

SIZE = 32
IMAGES = np.random.default_rng(3).integers(0, 256, (3, SIZE, SIZE, 3), dtype=np.uint8)


def maps(model: Path, output: str, **inputs: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    (found,) = session.run([output], inputs)
    return found.reshape(len(found), *found.shape[-2:])


def branch(nodes: List[onnx.NodeProto], output: str) -> onnx.GraphProto:
    result = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
    return helper.make_graph(nodes, output, [], [result])


@settings(max_examples=25, deadline=None)
@given(
    layout=st.sampled_from(["nchw", "nhwc"]),
    order=st.sampled_from(["rgb", "bgr"]),
    kind=st.sampled_from([TensorProto.FLOAT, TensorProto.UINT8]),
    top=st.sampled_from([1.0, 255.0]),
    form=st.sampled_from(["sub-div", "mul-add", "batch norm", "div first"]),
)
def test_bundle_gives_the_same_map_for_every_convention(layout, order, kind, top, form):
    if kind == TensorProto.UINT8:
        top = 255.0
    writer = GraphWriter()
    tensor = "x" if kind == TensorProto.FLOAT else writer.add("Cast", "x", to=TensorProto.FLOAT)
    if layout == "nhwc":
        tensor = writer.add("Transpose", tensor, perm=[0, 3, 1, 2])
    mean, std = np.float32(MEAN * top), np.float32(STD * top)
    if form == "sub-div":
        tensor = writer.add("Div", writer.add("Sub", tensor, mean), std)
    elif form == "mul-add":
        tensor = writer.add("Add", writer.add("Mul", tensor, 1 / std), -mean / std)
    elif form == "div first":
        tensor = writer.add("Div", tensor, np.float32(top))
        tensor = writer.add("Div", writer.add("Sub", tensor, MEAN), STD)
    else:
        parts = [np.ones(3, np.float32), np.zeros(3, np.float32), mean.ravel(), std.ravel() ** 2]
        tensor = writer.add("BatchNormalization", tensor, *parts, epsilon=0.0)
    writer.add("Identity", writer.network(tensor), output="map")
    shape = ["N", 3, SIZE, SIZE] if layout == "nchw" else ["N", SIZE, SIZE, 3]
    model = writer.model({"x": shape}, {"map": ["N", 1, None, None]}, kind)
    pixels = IMAGES[..., ::-1] if order == "bgr" else IMAGES
    pixels = pixels.transpose(0, 3, 1, 2) if layout == "nchw" else pixels
    if kind == TensorProto.FLOAT:
        pixels = pixels.astype(np.float32) * np.float32(top / 255)
    with tempfile.TemporaryDirectory() as folder:
        source = save(model, Path(folder) / "model.onnx")
        options = ImportOptions(channel_order=order)
        bundle = import_model(source, Path(folder) / "bundle", options=options)
        expected = maps(source, "map", x=np.ascontiguousarray(pixels))
        np.testing.assert_allclose(maps(bundle.model, "anomaly_map", image=IMAGES), expected, rtol=1e-3)


def test_normalization_outside_of_the_graph_is_given_by_options(tmp_path: Path):
    writer = GraphWriter()
    writer.add("Identity", writer.network("x"), output="map")
    model = writer.model({"x": ["N", 3, SIZE, SIZE]}, {"map": ["N", 1, None, None]})
    source = save(model, tmp_path / "model.onnx")
    options = ImportOptions(mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.5))
    bundle = import_model(source, tmp_path / "a", options=options)
    pixels = (IMAGES / 255 - [0.5, 0.4, 0.3]) / [0.2, 0.25, 0.5]
    expected = maps(source, "map", x=pixels.transpose(0, 3, 1, 2).astype(np.float32))
    np.testing.assert_allclose(maps(bundle.model, "anomaly_map", image=IMAGES), expected, rtol=1e-4)
    unknown = import_model(source, tmp_path / "b").manifest.imported
    assert unknown is not None
    assert any("ImageNet" in text and "--mean" in text for text in unknown.assumed)


def test_tool_is_not_recognized_by_the_names_of_outputs_alone(tmp_path: Path):
    writer = GraphWriter()
    found = writer.network(writer.add("Div", writer.add("Sub", "x", 255 * MEAN), 255 * STD))
    writer.reduce("ReduceMax", found, [1, 2, 3], keepdims=0, output="output_0")
    writer.add("Identity", found, output="output_1")
    shapes = {"output_0": ["N"], "output_1": ["N", 1, 8, 8]}
    source = save(writer.model({"x": ["N", 3, SIZE, SIZE]}, shapes), tmp_path / "model.onnx")
    bundle = import_model(source, tmp_path / "bundle")
    expected = maps(source, "output_1", x=IMAGES.transpose(0, 3, 1, 2).astype(np.float32))
    np.testing.assert_allclose(maps(bundle.model, "anomaly_map", image=IMAGES), expected, rtol=1e-3)


def test_mean_and_std_by_the_names_of_anomavision_are_stated_as_assumed(tmp_path: Path):
    writer = GraphWriter()
    found = writer.network("input")
    writer.reduce("ReduceMax", found, [1, 2, 3], keepdims=0, output="output_0")
    writer.add("Identity", found, output="output_1")
    shapes = {"output_0": ["N"], "output_1": ["N", 1, 8, 8]}
    source = save(writer.model({"input": ["N", 3, SIZE, SIZE]}, shapes), tmp_path / "model.onnx")
    found = import_model(source, tmp_path / "bundle").manifest
    assert found.origin == "AnomaVision ONNX"
    assert any("AnomaVision" in text and "--mean --std" in text for text in found.imported.assumed)


def test_gray_model_gets_the_brightness(tmp_path: Path):
    writer = GraphWriter()
    writer.add("Identity", writer.network(writer.add("Div", "x", np.float32(255)), 1), output="map")
    model = writer.model({"x": ["N", 1, SIZE, SIZE]}, {"map": ["N", 1, None, None]})
    source = save(model, tmp_path / "model.onnx")
    bundle = import_model(source, tmp_path / "bundle")
    gray = (IMAGES @ [0.299, 0.587, 0.114])[:, None].astype(np.float32)
    expected = maps(source, "map", x=gray)
    np.testing.assert_allclose(maps(bundle.model, "anomaly_map", image=IMAGES), expected, rtol=1e-4)


@pytest.mark.parametrize("start", [4, 8])
def test_crop_stays_and_its_map_is_completed(start: int, tmp_path: Path):
    writer = GraphWriter()
    cut = [np.array(values, np.int64) for values in ([start] * 2, [start + 24] * 2, [2, 3], [1, 1])]
    tensor = writer.add("Slice", writer.add("Div", writer.add("Sub", "x", MEAN), STD), *cut)
    writer.add("Neg", writer.network(tensor), output="map")
    model = writer.model({"x": ["N", 3, SIZE, SIZE]}, {"map": ["N", 1, 6, 6]})
    source = save(model, tmp_path / "model.onnx")
    bundle = import_model(source, tmp_path / "bundle")
    expected = maps(source, "map", x=(IMAGES / 255).transpose(0, 3, 1, 2).astype(np.float32))
    found = maps(bundle.model, "anomaly_map", image=IMAGES)
    assert found.shape == (3, 8, 8)
    first = start // 4
    np.testing.assert_allclose(found[:, first : first + 6, first : first + 6], expected, rtol=1e-4)
    np.testing.assert_allclose(found[:, 0, 0], found.min(axis=(1, 2)))
    assert bundle.manifest.imported is not None
    assert "nothing outside is judged" in bundle.manifest.imported.resize


def test_choice_within_a_choice_is_taken(tmp_path: Path):
    writer = GraphWriter()
    found = writer.network(writer.add("Div", writer.add("Sub", "x", MEAN), STD))
    yes = np.array(True)
    inner = branch([helper.make_node("Neg", ["doubled"], ["inner"])], "inner")
    chosen = helper.make_node("If", [writer.constant(yes)], ["outer"], then_branch=inner, else_branch=inner)
    outer = branch([helper.make_node("Add", [found, found], ["doubled"]), chosen], "outer")
    writer.add("If", yes, output="map", then_branch=outer, else_branch=outer)
    model = writer.model({"x": ["N", 3, SIZE, SIZE]}, {"map": ["N", 1, 8, 8]})
    source = save(model, tmp_path / "model.onnx")
    bundle = import_model(source, tmp_path / "bundle")
    pixels = (IMAGES / 255).transpose(0, 3, 1, 2).astype(np.float32)
    expected = maps(source, "map", x=pixels)
    np.testing.assert_allclose(maps(bundle.model, "anomaly_map", image=IMAGES), expected, rtol=1e-4)


@pytest.mark.parametrize("images", [2, 3])
def test_graph_that_computes_images_one_after_the_other_takes_any_number(images: int, tmp_path: Path):
    writer = GraphWriter()
    tensor = writer.add("Div", writer.add("Sub", "x", MEAN), STD)
    features = writer.convolve(writer.convolve(tensor, 8, 3, 2), 16, 8, 2)
    rows = writer.add("Transpose", features, perm=[0, 2, 3, 1])
    rows = writer.add("Reshape", rows, np.array([images * 64, 16], np.int64))
    bank = writer.constant(writer.generator.normal(0, 1, (16, 40)).astype(np.float32))
    found = []
    for number in range(images):
        ends = [np.array([value], np.int64) for value in (64 * number, 64 * (number + 1), 0, 1)]
        distances = writer.add("MatMul", writer.add("Slice", rows, *ends), bank)
        found.append(writer.reduce("ReduceMax", distances, [1], keepdims=0))
    joined = writer.add("Concat", *found, axis=0)
    writer.add("Reshape", joined, np.array([images, 1, 8, 8], np.int64), output="map")
    model = writer.model({"x": [images, 3, SIZE, SIZE]}, {"map": [images, 1, 8, 8]})
    source = save(model, tmp_path / "model.onnx")
    bundle = import_model(source, tmp_path / "bundle")
    pixels = (IMAGES / 255).transpose(0, 3, 1, 2).astype(np.float32)[:images]
    found_maps = maps(bundle.model, "anomaly_map", image=IMAGES)
    np.testing.assert_allclose(found_maps[:images], maps(source, "map", x=pixels), rtol=1e-4)


def test_map_and_maximum_of_one_image_without_its_axis_are_found(tmp_path: Path):
    writer = GraphWriter()
    found = writer.network(writer.add("Div", writer.add("Sub", "x", MEAN), STD))
    writer.add("Squeeze", found, output="map")
    writer.add("ReduceMax", found, output="score", keepdims=0)
    model = writer.model({"x": [1, 3, SIZE, SIZE]}, {"map": [None, None], "score": []})
    source = save(model, tmp_path / "model.onnx")
    bundle = import_model(source, tmp_path / "bundle")
    one = (IMAGES[:1] / 255).transpose(0, 3, 1, 2).astype(np.float32)
    session = onnxruntime.InferenceSession(str(source), providers=["CPUExecutionProvider"])
    expected, score = session.run(["map", "score"], {"x": one})
    found_maps = maps(bundle.model, "anomaly_map", image=IMAGES)
    np.testing.assert_allclose(found_maps[0], expected, rtol=1e-4)
    assert found_maps[0].max() == pytest.approx(float(score), rel=1e-4)


def test_means_of_caffe_say_that_pixels_are_bytes(tmp_path: Path):
    writer = GraphWriter()
    means = np.array([103.939, 116.779, 123.68], np.float32).reshape(1, 3, 1, 1)
    writer.add("Identity", writer.network(writer.add("Sub", "x", means)), output="map")
    model = writer.model({"x": ["N", 3, SIZE, SIZE]}, {"map": ["N", 1, None, None]})
    source = save(model, tmp_path / "model.onnx")
    bundle = import_model(source, tmp_path / "bundle", options=ImportOptions(channel_order="bgr"))
    pixels = IMAGES[..., ::-1].transpose(0, 3, 1, 2).astype(np.float32)
    expected = maps(source, "map", x=np.ascontiguousarray(pixels))
    np.testing.assert_allclose(maps(bundle.model, "anomaly_map", image=IMAGES), expected, rtol=1e-4)


@pytest.mark.parametrize("images", [1, 2, "N"])
def test_constant_for_each_position_of_an_image_is_repeated_for_each_image(images, tmp_path: Path):
    """torch.cdist joins the features with a column of ones for every position."""
    writer = GraphWriter()
    tensor = writer.add("Div", writer.add("Sub", "x", MEAN), STD)
    features = writer.convolve(writer.convolve(tensor, 8, 3, 2), 16, 8, 2)
    rows = writer.add("Reshape", writer.add("Transpose", features, perm=[0, 2, 3, 1]), np.array([-1, 16]))
    squares = writer.add("ReduceSum", writer.add("Mul", rows, rows), np.array([1]))
    ones = writer.add("ConstantOfShape", writer.add("Shape", squares), value=_one())
    joined = writer.add("Concat", rows, squares, ones, axis=1)
    bank = writer.generator.normal(0, 1, (18, 40)).astype(np.float32)
    nearest = writer.reduce("ReduceMin", writer.add("MatMul", joined, bank), [1], keepdims=0)
    writer.add("Reshape", nearest, np.array([-1, 1, 8, 8]), output="map")
    model = writer.model({"x": [images, 3, SIZE, SIZE]}, {"map": [images, 1, 8, 8]})
    source = save(model, tmp_path / "model.onnx")
    bundle = import_model(source, tmp_path / "bundle")
    pixels = (IMAGES / 255).transpose(0, 3, 1, 2).astype(np.float32)
    count = 3 if images == "N" else images
    expected = maps(source, "map", x=pixels[:count])
    found = maps(bundle.model, "anomaly_map", image=IMAGES)
    np.testing.assert_allclose(found[:count], expected, rtol=1e-4, atol=1e-5)


def _one() -> TensorProto:
    return numpy_helper.from_array(np.ones(1, np.float32), "one")


@pytest.mark.parametrize("images", [1, 2, "N"])
@pytest.mark.parametrize("transposed", [0, 1])
def test_projection_of_attention_keeps_the_images_apart(images, transposed: int, tmp_path: Path):
    """torch multiplies `[L, N, E]` as `[L * N, E]`, where the images are the faster index."""
    writer = GraphWriter()
    features = writer.convolve(writer.convolve(writer.add("Div", "x", np.float32(255)), 8, 3, 2), 16, 8, 2)
    tokens = writer.add("Reshape", features, np.array([0, 16, 64]))
    tokens = writer.add("Transpose", tokens, perm=[2, 0, 1])
    weight = writer.generator.normal(0, 0.2, (16, 16)).astype(np.float32)
    bias = writer.generator.normal(0, 0.2, 16).astype(np.float32)
    rows = writer.add("Reshape", tokens, np.array([-1, 16]))
    rows = writer.add("Gemm", rows, weight, bias, transB=transposed)
    tokens = writer.add("Reshape", rows, writer.add("Shape", tokens))
    tokens = writer.add("Transpose", tokens, perm=[1, 2, 0])
    found = writer.reduce("ReduceL2", tokens, [1], keepdims=0)
    writer.add("Reshape", found, np.array([-1, 1, 8, 8]), output="map")
    model = writer.model({"x": [images, 3, SIZE, SIZE]}, {"map": [images, 1, 8, 8]})
    source = save(model, tmp_path / "model.onnx")
    bundle = import_model(source, tmp_path / "bundle")
    count = 3 if images == "N" else images
    pixels = IMAGES.transpose(0, 3, 1, 2).astype(np.float32)[:count]
    found_maps = maps(bundle.model, "anomaly_map", image=IMAGES)[:count]
    np.testing.assert_allclose(found_maps, maps(source, "map", x=pixels), rtol=1e-4)


@pytest.mark.parametrize("form", ["sigmoid", "clip"])
def test_score_that_is_the_maximum_of_the_map_has_the_units_of_the_map(form: str, tmp_path: Path):
    writer = GraphWriter()
    raw = writer.network(writer.add("Div", "x", np.float32(255)))
    moved = writer.add("Mul", writer.add("Sub", raw, np.float32(0.1)), np.float32(2))
    if form == "sigmoid":
        found = writer.add("Sigmoid", moved, output="map")
    else:
        found = writer.add("Clip", moved, np.float32(0), np.float32(1), output="map")
    writer.reduce("ReduceMax", writer.add("Flatten", found), [1], keepdims=0)
    writer.add("Identity", writer.nodes[-1].output[0], output="score")
    model = writer.model({"x": ["N", 3, SIZE, SIZE]}, {"map": ["N", 1, 8, 8], "score": ["N"]})
    bundle = import_model(save(model, tmp_path / "model.onnx"), tmp_path / "bundle")
    session = onnxruntime.InferenceSession(str(bundle.model), providers=["CPUExecutionProvider"])
    found_maps, scores = session.run(["anomaly_map", "anomaly_score"], {"image": IMAGES})
    np.testing.assert_allclose(scores, found_maps.max(axis=(1, 2)), rtol=1e-6)


@pytest.mark.parametrize("keep", [False, True])
def test_score_of_all_values_of_one_image_is_the_score_of_each_image(keep: bool, tmp_path: Path):
    """Exports for one image normalize by the extremes of the tensor, and take `[0]` of it."""
    writer = GraphWriter()
    raw = writer.network(writer.add("Div", "x", np.float32(255)))
    lowest = writer.add("ReduceMin", raw, keepdims=0)
    highest = writer.add("ReduceMax", raw, output="score", keepdims=0)
    span = writer.add("Add", writer.add("Sub", highest, lowest), np.float32(1e-6))
    scaled = writer.add("Div", writer.add("Sub", raw, lowest), span)
    plane = writer.add("Gather", scaled, np.array(0), axis=0)
    writer.add("Gather", plane, np.array(0), axis=0, output="map")
    writer.add("Cast", writer.add("Greater", scaled, np.float32(0.5)), to=TensorProto.FLOAT, output="mask")
    sizes = {"map": [8, 8], "score": [], "mask": [1, 1, 8, 8]}
    source = save(writer.model({"x": [1, 3, SIZE, SIZE]}, sizes), tmp_path / "model.onnx")
    options = ImportOptions(keep_postprocessing=keep)
    bundle = import_model(source, tmp_path / "bundle", options=options)
    session = onnxruntime.InferenceSession(str(bundle.model), providers=["CPUExecutionProvider"])
    found_maps, scores = session.run(["anomaly_map", "anomaly_score"], {"image": IMAGES})
    original = onnxruntime.InferenceSession(str(source), providers=["CPUExecutionProvider"])
    for index, image in enumerate(IMAGES.transpose(0, 3, 1, 2).astype(np.float32)):
        expected_map, expected = original.run(["map", "score"], {"x": image[None]})
        np.testing.assert_allclose(found_maps[index], expected_map, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(scores[index], expected, rtol=1e-4)


def test_score_output_that_is_a_map_is_refused(tmp_path: Path):
    writer = GraphWriter()
    writer.add("Identity", writer.network(writer.add("Div", "x", np.float32(255))), output="map")
    model = writer.model({"x": ["N", 3, SIZE, SIZE]}, {"map": ["N", 1, 8, 8]})
    source = save(model, tmp_path / "model.onnx")
    with pytest.raises(ForeignModelError, match="not one number for each image"):
        import_model(source, tmp_path / "bundle", options=ImportOptions(score_output="map"))


def test_float16_of_outputs_only_is_within_the_tolerance(tmp_path: Path):
    writer = GraphWriter()
    found = writer.network(writer.add("Div", "x", np.float32(255)))
    writer.add("Cast", found, to=TensorProto.FLOAT16, output="map")
    sizes = {"map": (TensorProto.FLOAT16, ["N", 1, 8, 8])}
    source = save(writer.model({"x": ["N", 3, SIZE, SIZE]}, sizes), tmp_path / "model.onnx")
    assert import_model(source, tmp_path / "bundle").manifest.parity.tolerance == 1e-2


@pytest.mark.parametrize("batch", [1, "N"])
@pytest.mark.parametrize("is_computed", [False, True])
def test_samples_at_places_of_each_image_are_taken_of_each_image(batch, is_computed: bool, tmp_path: Path):
    writer = GraphWriter()
    features = writer.convolve(writer.add("Div", writer.add("Sub", "x", MEAN), STD), 4, 3, 2)
    grid = np.stack(np.meshgrid(np.linspace(-1, 1, 8), np.linspace(-1, 1, 8)), -1)[None].astype(np.float32)
    if is_computed:
        moved = writer.reduce("ReduceMean", features, [1, 2, 3], keepdims=1)
        grid = writer.add("Add", grid, writer.add("Mul", moved, np.float32(0.2)))
    elif batch == "N":
        count = writer.add("Gather", writer.add("Shape", "x"), np.array([0], np.int64), axis=0)
        sizes = writer.add("Concat", count, np.array([1, 1, 1], np.int64), axis=0)
        grid = writer.add("Expand", grid, sizes)
    sampled = writer.add("GridSample", features, grid, align_corners=1, padding_mode="border")
    writer.reduce("ReduceMean", sampled, [1], keepdims=1, output="map")
    model = writer.model({"x": [batch, 3, SIZE, SIZE]}, {"map": [batch, 1, 8, 8]})
    source = save(model, tmp_path / "model.onnx")
    bundle = import_model(source, tmp_path / "bundle")
    pixels = (IMAGES / 255).transpose(0, 3, 1, 2).astype(np.float32)
    expected = np.concatenate([maps(source, "map", x=pixels[i : i + 1]) for i in range(len(pixels))])
    np.testing.assert_allclose(
        maps(bundle.model, "anomaly_map", image=IMAGES), expected, rtol=1e-3, atol=1e-5
    )
