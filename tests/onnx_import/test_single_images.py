"""Graphs of one image without an axis of images, and of images one after the other, take any number."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence, Tuple

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from adq_edge.core.errors import ForeignModelError
from adq_edge.onnx_import.import_model import import_model
from factories.foreign_models import GraphWriter, save

SIZE = 32
IMAGES = np.random.default_rng(5).integers(0, 256, (3, SIZE, SIZE, 3), dtype=np.uint8)
PIXELS = IMAGES.transpose(0, 3, 1, 2).astype(np.float32)


def run(model: Path, **inputs: np.ndarray) -> Dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    return dict(zip([output.name for output in session.get_outputs()], session.run(None, inputs)))


def features(writer: GraphWriter) -> str:
    """Add a network that gives `[N, 16, 8, 8]`."""
    scaled = writer.add("Div", "x", np.float32(255))
    return writer.convolve(writer.convolve(scaled, 8, 3, 2), 16, 8, 2)


def check_import(model: onnx.ModelProto, names: Sequence[str], batch: int = 1) -> Sequence[str]:
    """Import a model, and compare map and score of three images with those of the original, one by one.

    Return what was assumed.
    """
    with tempfile.TemporaryDirectory() as folder:
        source = save(model, Path(folder) / "model.onnx")
        bundle = import_model(source, Path(folder) / "bundle")
        found = run(bundle.model, image=IMAGES)
        assumed = bundle.manifest.imported.assumed if bundle.manifest.imported else ()
        for index, image in enumerate(PIXELS):
            answers = run(source, x=np.repeat(image[None], batch, 0))
            for name in names:
                expected = answers[name].reshape(batch, -1)[0] if batch > 1 else answers[name].ravel()
                whole = found[f"anomaly_{name}"][index].ravel()
                np.testing.assert_allclose(whole, expected, rtol=2e-4, atol=1e-5 * np.abs(expected).max())
        return assumed


def drop_by_squeeze(writer: GraphWriter, tensor: str) -> str:
    return writer.add("Squeeze", tensor, np.array([0]))


def drop_by_index(writer: GraphWriter, tensor: str) -> str:
    return writer.add("Gather", tensor, np.array(0), axis=0)


def drop_by_reshape(writer: GraphWriter, tensor: str) -> str:
    return writer.add("Reshape", tensor, np.array([16, 8, 8]))


DROPS = (drop_by_squeeze, drop_by_index, drop_by_reshape)
Drop = Callable[[GraphWriter, str], str]


@pytest.mark.parametrize("drop", DROPS)
def test_nearest_neighbors_of_one_image_without_its_axis(drop: Drop):
    """A memory bank as written by hand: rows `[h * w, C]`, and the bank's neighborhood of the worst row."""
    writer = GraphWriter()
    rows = writer.add("Reshape", drop(writer, features(writer)), np.array([16, 64]))
    rows = writer.add("Transpose", rows, perm=[1, 0])
    bank = writer.constant(writer.generator.normal(0, 1, (40, 16)).astype(np.float32))
    distances = writer.add("Gemm", rows, bank, np.ones(40, np.float32), transB=1)
    nearest = writer.reduce("ReduceMin", distances, [1], keepdims=0)
    worst = writer.add("ArgMax", nearest, axis=0, keepdims=0)
    support = writer.add("MatMul", bank, writer.add("Gather", rows, worst, axis=0))
    weight = writer.reduce("ReduceMax", writer.add("Softmax", support, axis=0), [0], keepdims=0)
    writer.add("Mul", writer.reduce("ReduceMax", nearest, [0], keepdims=0), weight, output="score")
    writer.add("Reshape", nearest, np.array([1, 1, 8, 8]), output="map")
    sizes = {"map": [1, 1, 8, 8], "score": []}
    check_import(writer.model({"x": [1, 3, SIZE, SIZE]}, sizes), ["map", "score"])


@pytest.mark.parametrize("form", ["stack", "scatter", "scatter nd"])
@pytest.mark.parametrize("images", [2, 3])
def test_scores_of_images_one_after_the_other(form: str, images: int):
    """DFKDE of anomalib: the density of each image is written into a vector of scores."""
    writer = GraphWriter()
    means = writer.reduce("ReduceMean", features(writer), [2, 3], keepdims=0)
    samples = writer.constant(writer.generator.normal(0.3, 0.2, (20, 16)).astype(np.float32))
    scores = writer.constant(np.zeros(images, np.float32))
    single: List[str] = []
    for number in range(images):
        one = writer.add("Gather", means, np.array(number), axis=0)
        squares = writer.add("Pow", writer.add("Sub", samples, one), np.float32(2))
        distances = writer.reduce("ReduceSum", squares, [1], keepdims=0)
        density = writer.add("ReduceMean", writer.add("Exp", writer.add("Neg", distances)), keepdims=0)
        single.append(writer.add("Unsqueeze", density, np.array([0])))
        place = np.array([number] if form == "scatter" else [[number]])
        if form != "stack":
            operator = "ScatterElements" if form == "scatter" else "ScatterND"
            scores = writer.add(operator, scores, place, single[-1])
    if form == "stack":
        scores = writer.add("Concat", *single, axis=0)
    writer.add("Log", scores, output="score")
    model = writer.model({"x": [images, 3, SIZE, SIZE]}, {"score": [images]})
    check_import(model, ["score"], images)


@pytest.mark.parametrize("batch", [1, "N"])
def test_extremes_of_a_batch_are_those_of_each_image(batch: Any):
    """CFlow of anomalib: rows of all images, in their own order, less the largest value of the batch."""
    writer = GraphWriter()
    rows = writer.add("Transpose", features(writer), perm=[0, 2, 3, 1])
    rows = writer.add("Reshape", rows, np.array([-1, 16]))
    count = writer.add("Gather", writer.add("Shape", rows), np.array(0))
    numbers = writer.add("Range", np.array(0), count, np.array(1))
    rows = writer.add("GatherND", rows, writer.add("Unsqueeze", numbers, np.array([1])))
    logarithm = writer.reduce("ReduceMean", rows, [1], keepdims=0)
    relative = writer.add("Sub", logarithm, writer.add("ReduceMax", logarithm, keepdims=0))
    whole = writer.add("ReduceSum", writer.add("Mul", logarithm, logarithm), keepdims=0)
    freedom = writer.add("Sub", writer.add("Cast", count, to=1), np.float32(1))  # as torch.std has it
    relative = writer.add("Mul", relative, writer.add("Sqrt", writer.add("Div", whole, freedom)))
    plane = writer.add("Reshape", writer.add("Exp", relative), np.array([-1, 8, 8]))
    highest = writer.add("ReduceMax", plane, keepdims=0)
    writer.add("Sub", highest, plane, output="map")
    assumed = check_import(writer.model({"x": [batch, 3, SIZE, SIZE]}, {"map": [batch, 8, 8]}), ["map"])
    assert any("each image is judged alone" in text for text in assumed) == (batch == "N")


@pytest.mark.parametrize("batch", [1, 2, "N"])
@pytest.mark.parametrize("form", ["split", "slice"])
def test_two_tensors_of_the_images_one_after_the_other_are_taken_apart(batch: Any, form: str):
    """UniNet of anomalib: features of two teachers go through one student as one batch."""
    writer = GraphWriter()
    first = features(writer)
    joined = writer.add("Concat", first, writer.add("Neg", first), axis=0)
    joined = writer.convolve(joined, 16, 16)
    if form == "split":
        writer.nodes.append(helper.make_node("Split", [joined], ["left", "right"], axis=0))
    else:
        count = writer.add("Gather", writer.add("Shape", first), np.array([0]))
        start, end, axis, step = np.array([0]), np.array([2**31]), np.array([0]), np.array([1])
        writer.add("Slice", joined, start, count, axis, step, output="left")
        writer.add("Slice", joined, count, end, axis, step, output="right")
    difference = writer.add("Sub", "left", writer.add("Mul", "right", np.float32(0.5)))
    writer.reduce("ReduceL2", difference, [1], output="map")
    count = 1 if batch == "N" else batch
    check_import(writer.model({"x": [batch, 3, SIZE, SIZE]}, {"map": [batch, 1, 8, 8]}), ["map"], count)


@pytest.mark.parametrize("batch", [1, "N"])
@pytest.mark.parametrize("form", ["scatter", "one-hot"])
def test_codebook_is_read_by_the_nearest_entry(batch: Any, form: str):
    """DSR of anomalib: one-hot rows, written by scatter, times the codebook."""
    writer = GraphWriter()
    rows = writer.add("Transpose", features(writer), perm=[0, 2, 3, 1])
    rows = writer.add("Reshape", rows, np.array([-1, 16]))
    codes = writer.generator.normal(0, 0.5, (24, 16)).astype(np.float32)
    squares = np.float32((codes**2).sum(1) / 2)
    distances = writer.add("Sub", squares, writer.add("MatMul", rows, np.ascontiguousarray(codes.T)))
    index = writer.add("ArgMin", distances, axis=1, keepdims=int(form == "scatter"))
    if form == "scatter":
        zeros = writer.add("Expand", np.float32(0), writer.add("Shape", distances))
        ones = writer.add("Expand", np.float32(1), writer.add("Shape", index))
        chosen = writer.add("ScatterElements", zeros, index, ones, axis=1)
    else:
        chosen = writer.add("OneHot", index, np.array(24), np.array([0, 1], np.float32))
    difference = writer.add("Sub", rows, writer.add("MatMul", chosen, codes))
    used = writer.add("Mul", chosen, np.linspace(0, 1, 24).astype(np.float32))
    error = writer.reduce("ReduceL2", writer.add("Concat", difference, used, axis=1), [1])
    writer.add("Reshape", error, np.array([-1, 1, 8, 8]), output="map")
    check_import(writer.model({"x": [batch, 3, SIZE, SIZE]}, {"map": [batch, 1, 8, 8]}), ["map"])


@pytest.mark.parametrize("batch", [1, "N"])
def test_mask_that_is_always_true_chooses_all(batch: Any):
    """AnomalyDINO of anomalib: `features[mask]` and `distances[mask] = ...` without masking."""
    writer = GraphWriter()
    rows = writer.add("Transpose", features(writer), perm=[0, 2, 3, 1])
    rows = writer.add("Reshape", rows, np.array([0, 64, 16]))
    sizes = writer.add("Slice", writer.add("Shape", rows), np.array([0]), np.array([2]))
    places = writer.add("NonZero", writer.add("Expand", np.array(True), sizes))
    places = writer.add("Transpose", places, perm=[1, 0])
    chosen = writer.add("GatherND", rows, places)
    nearest = writer.reduce("ReduceL2", writer.add("Sub", chosen, np.float32(0.2)), [1], keepdims=0)
    zeros = writer.add("Expand", np.float32(0), sizes)
    plane = writer.add("ScatterND", zeros, places, nearest)
    writer.add("Reshape", plane, np.array([-1, 1, 8, 8]), output="map")
    check_import(writer.model({"x": [batch, 3, SIZE, SIZE]}, {"map": [batch, 1, 8, 8]}), ["map"])


def test_maps_of_one_image_joined_along_its_axis_are_averaged():
    """`torch.cat([first, second]).mean(0)` of maps `[1, h, w]`, enlarged before."""
    writer = GraphWriter()
    found = features(writer)
    maps = [writer.reduce(operator, found, [1], keepdims=0) for operator in ("ReduceMax", "ReduceL2")]
    mean = writer.reduce("ReduceMean", writer.add("Concat", *maps, axis=0), [0], keepdims=0)
    plane = writer.add("Unsqueeze", mean, np.array([0, 1]))
    scales = np.array([1, 1, 2, 2], np.float32)
    writer.add("Resize", plane, "", scales, mode="linear", output="map")
    check_import(writer.model({"x": [1, 3, SIZE, SIZE]}, {"map": [1, 1, 16, 16]}), ["map"])


def test_batch_whose_last_image_is_judged_in_another_way_is_refused(tmp_path: Path):
    """The comparison has fewer images than the batch."""
    writer = GraphWriter()
    found = writer.network(writer.add("Div", "x", np.float32(255)))
    places = [np.array([place]) for place in range(17)]
    parts = [writer.add("Slice", found, places[i], places[i + 1], places[0]) for i in range(16)]
    parts[-1] = writer.add("Mul", parts[-1], np.float32(2))
    writer.add("Concat", *parts, axis=0, output="map")
    model = writer.model({"x": [16, 3, SIZE, SIZE]}, {"map": [16, 1, 8, 8]})
    with pytest.raises(ForeignModelError, match="different outputs for equal images of a batch"):
        import_model(save(model, tmp_path / "m.onnx"), tmp_path / "bundle")


def test_plane_of_a_dynamic_batch_is_the_map_of_one_image():
    writer = GraphWriter()
    energy = writer.reduce("ReduceMean", features(writer), [1], keepdims=0)
    writer.add("Gather", energy, np.array(0), axis=0, output="map")
    check_import(writer.model({"x": ["N", 3, SIZE, SIZE]}, {"map": [8, 8]}), ["map"])


Shape = Tuple[int, ...]


def _transpose(writer: GraphWriter, tensor: str, shape: Shape, pick: Any) -> Tuple[str, Shape]:
    order = pick(st.permutations(range(len(shape))))
    return writer.add("Transpose", tensor, perm=order), tuple(shape[axis] for axis in order)


def _join(writer: GraphWriter, tensor: str, shape: Shape, pick: Any) -> Tuple[str, Shape]:
    after = (shape[0] * shape[1], *shape[2:]) if len(shape) > 1 else (1, shape[0])
    return writer.add("Reshape", tensor, np.array(after)), after


def _scale(writer: GraphWriter, tensor: str, shape: Shape, pick: Any) -> Tuple[str, Shape]:
    start = pick(st.integers(0, len(shape)))
    factor = writer.generator.normal(1, 0.1, shape[start:]).astype(np.float32)
    factor = factor[None] if pick(st.booleans()) and start == 0 else factor
    return writer.add("Mul", factor, tensor), factor.shape if factor.ndim > len(shape) else shape


def _reduce(writer: GraphWriter, tensor: str, shape: Shape, pick: Any) -> Tuple[str, Shape]:
    axis, keep = pick(st.integers(0, len(shape) - 1)), int(len(shape) == 1 or pick(st.booleans()))
    operator = pick(st.sampled_from(["ReduceMean", "ReduceMax", "ReduceSum", "ReduceL2"]))
    found = writer.reduce(operator, tensor, [axis - pick(st.sampled_from([0, len(shape)]))], keepdims=keep)
    return found, (*shape[:axis], *[1] * keep, *shape[axis + 1 :])


def _relative(writer: GraphWriter, tensor: str, shape: Shape, pick: Any) -> Tuple[str, Shape]:
    extreme = writer.add("ReduceMax", tensor, keepdims=pick(st.integers(0, 1)))
    return writer.add("Sub", extreme, tensor), shape


def _softmax(writer: GraphWriter, tensor: str, shape: Shape, pick: Any) -> Tuple[str, Shape]:
    return writer.add("Softmax", tensor, axis=pick(st.integers(0, len(shape) - 1))), shape


def _multiply(writer: GraphWriter, tensor: str, shape: Shape, pick: Any) -> Tuple[str, Shape]:
    if pick(st.booleans()):
        weight = writer.generator.normal(0, 0.3, (shape[-1], 5)).astype(np.float32)
        return writer.add("MatMul", tensor, weight), (*shape[:-1], 5)
    rows = shape[-2] if len(shape) > 1 else shape[-1]
    weight = writer.generator.normal(0, 0.3, (6, rows)).astype(np.float32)
    return writer.add("MatMul", weight, tensor), (*shape[:-2], 6, *shape[-1:][: len(shape) - 1])


def _append(writer: GraphWriter, tensor: str, shape: Shape, pick: Any) -> Tuple[str, Shape]:
    axis = pick(st.integers(0, len(shape) - 1))
    other = writer.generator.normal(0, 1, shape).astype(np.float32) if pick(st.booleans()) else tensor
    after = tuple(size * (1 + (index == axis)) for index, size in enumerate(shape))
    return writer.add("Concat", tensor, other, axis=axis), after


def _cut(writer: GraphWriter, tensor: str, shape: Shape, pick: Any) -> Tuple[str, Shape]:
    axis = pick(st.integers(0, len(shape) - 1))
    half = max(1, shape[axis] // 2)
    cut = [np.array([value]) for value in (0, half, axis, 1)]
    return writer.add("Slice", tensor, *cut), (*shape[:axis], half, *shape[axis + 1 :])


def _add_axis(writer: GraphWriter, tensor: str, shape: Shape, pick: Any) -> Tuple[str, Shape]:
    axis = pick(st.integers(0, len(shape)))
    return writer.add("Unsqueeze", tensor, np.array([axis])), (*shape[:axis], 1, *shape[axis:])


def _einsum(writer: GraphWriter, tensor: str, shape: Shape, pick: Any) -> Tuple[str, Shape]:
    weight = writer.generator.normal(0, 0.3, (4, shape[-1])).astype(np.float32)
    letters = "abcdefgh"[: len(shape)]
    found = writer.add("Einsum", tensor, weight, equation=f"{letters},z{letters[-1]}->z{letters[:-1]}")
    return found, (4, *shape[:-1])


STEPS = (
    _einsum,
    _transpose,
    _join,
    _scale,
    _reduce,
    _relative,
    _softmax,
    _multiply,
    _append,
    _cut,
    _add_axis,
)


@settings(max_examples=12, deadline=None)
@given(data=st.data(), drop=st.sampled_from(DROPS), steps=st.lists(st.sampled_from(STEPS), max_size=6))
def test_any_arithmetic_of_one_image_is_done_for_each_image(data: Any, drop: Drop, steps: List[Any]):
    writer = GraphWriter()
    tensor, shape = drop(writer, features(writer)), (16, 8, 8)
    for step in steps:
        tensor, shape = step(writer, tensor, shape, data.draw)
    writer.add("ReduceL2", tensor, keepdims=0, output="score")
    model = writer.model({"x": [1, 3, SIZE, SIZE]}, {"score": []})
    try:
        check_import(model, ["score"])
    except ForeignModelError as error:  # softmax of one value, and the like
        if "the same map and score for all images" not in str(error):
            raise
