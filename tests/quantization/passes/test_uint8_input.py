from __future__ import annotations

import collections
from typing import Dict, Sequence

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from adq_edge.core.options import Target
from adq_edge.models.config import IMAGENET_MEAN, IMAGENET_STD
from adq_edge.quantization.passes.frame import PassContext, run_passes
from adq_edge.quantization.passes.uint8_input import convolve_image_in_integers

SIZE, CHANNELS = 64, 16
MEAN = 255 * np.array(IMAGENET_MEAN)


def make(pads: Sequence[Sequence[int]] = ((3, 3, 3, 3), (3, 3, 3, 3)), *, tapped: bool = False):
    """Make convolutions of a normalized image, as `export` writes them."""
    rng, constants, nodes = np.random.default_rng(0), [], []

    def constant(name: str, value: np.ndarray) -> str:
        constants.append(numpy_helper.from_array(value.astype(np.float32), name))
        return name

    nodes.append(helper.make_node("Cast", ["image"], ["cast"], "cast", to=TensorProto.FLOAT))
    nodes.append(helper.make_node("Transpose", ["cast"], ["planes"], "planes", perm=[0, 3, 1, 2]))
    mean = constant("mean", np.repeat(MEAN.reshape(1, 3, 1, 1), SIZE, 3))  # widened, as for ONNX Runtime
    factor = constant("factor", 1 / (255 * np.array(IMAGENET_STD)).reshape(1, 3, 1, 1))
    nodes.append(helper.make_node("Sub", ["planes", mean], ["centered"], "centered"))
    nodes.append(helper.make_node("Mul", ["centered", factor], ["normalized"], "normalized"))
    names = [f"conv{number}" for number in range(len(pads))]
    for name, padding in zip(names, pads):
        weight = constant(f"{name}.weight", rng.normal(0, 0.1, (CHANNELS, 3, 7, 7)))
        inputs = ["normalized", weight, constant(f"{name}.bias", rng.normal(0, 1, CHANNELS))]
        attributes = {"kernel_shape": [7, 7], "strides": [2, 2], "pads": padding}
        nodes.append(helper.make_node("Conv", inputs, [name], name, **attributes))
    grid = [constant("scale", np.array(0.1)), "zero"]  # OpenVINO computes no integers without a pair
    constants.append(numpy_helper.from_array(np.uint8(128), "zero"))
    nodes.append(helper.make_node("QuantizeLinear", [names[0], *grid], ["quantized"], "quantized"))
    nodes.append(helper.make_node("DequantizeLinear", ["quantized", *grid], ["rounded"], "rounded"))
    outputs = [*names, "rounded", *(["normalized"] if tapped else [])]
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", SIZE, SIZE, 3])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 4) for name in outputs],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def rewrite(model: onnx.ModelProto, **settings) -> onnx.ModelProto:
    return run_passes(model, (convolve_image_in_integers,), PassContext(**settings))


def run(model: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    return np.stack(session.run(["conv0", "conv1"], {"image": images}))


@pytest.fixture
def photographs() -> np.ndarray:
    """Images as smooth as photographs, with a little noise."""
    rng = np.random.default_rng(1)
    smooth = [cv2.GaussianBlur(rng.normal(0, 1, (SIZE, SIZE, 3)), (0, 0), 6) for _ in range(4)]
    images = [120 + 60 * values / values.std() + rng.normal(0, 3, values.shape) for values in smooth]
    return np.clip(images, 0, 255).astype(np.uint8)


def test_integer_convolutions_reproduce_the_float32_ones(photographs: np.ndarray):
    model = make()
    rewritten = rewrite(model)
    assert {node.op_type for node in rewritten.graph.node}.isdisjoint({"Cast", "Sub", "Mul"})
    expected, actual = run(model, photographs), run(rewritten, photographs)
    assert actual.dtype == np.float32
    noise = np.sum((expected - actual) ** 2, axis=(0, 1, 2))
    signal = np.sum(expected**2, axis=(0, 1, 2))
    assert 10 * np.log10(signal.sum() / noise.sum()) > 45
    border = np.ones(noise.shape, bool)
    border[2:-2, 2:-2] = False
    assert 10 * np.log10(signal[border].sum() / noise[border].sum()) > 45
    levels = [numpy_helper.to_array(t) for t in rewritten.graph.initializer if len(t.dims) == 4]
    assert [array.dtype for array in levels] == [np.int8, np.int8]
    assert max(np.abs(array.astype(int)).max() for array in levels) == 64  # two products fit 16 bits


def test_image_of_the_mean_color_gives_the_bias_up_to_the_border():
    model = make()
    image = np.broadcast_to(np.rint(MEAN).astype(np.uint8), (1, SIZE, SIZE, 3))
    bias = np.stack([numpy_helper.to_array(t) for t in model.graph.initializer if t.name.endswith("bias")])
    found = run(rewrite(model), np.ascontiguousarray(image))
    # half a gray level is a hundredth of a deviation, over 147 weights of 0.1
    np.testing.assert_allclose(found, np.broadcast_to(bias[:, None, :, None, None], found.shape), atol=0.03)


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        (make(tapped=True), {}),
        (make(((3, 3, 3, 3), (2, 2, 2, 2))), {}),
        (make(), {"float_layers": ("conv1",)}),
        (make(), {"target": Target.ARM}),
        (make(), {"trained": True}),
    ],
    ids=["normalized image is an output", "two paddings", "float layer", "Arm", "trained"],
)
def test_other_models_and_settings_stay_as_they_are(model: onnx.ModelProto, settings: Dict[str, object]):
    assert rewrite(model, **settings).graph.node == model.graph.node


def test_convolutions_without_padding_get_no_pad():
    unpadded = make(((0, 0, 0, 0), (0, 0, 0, 0)))
    assert "Pad" not in {node.op_type for node in rewrite(unpadded).graph.node}


def test_openvino_computes_the_convolutions_in_integers(photographs: np.ndarray):
    openvino = pytest.importorskip("openvino")
    model = make()
    rewritten = rewrite(model)
    core = openvino.Core()
    found = core.read_model(rewritten.SerializeToString())
    engine = core.compile_model(found, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    precisions: Dict[str, int] = collections.Counter(
        node.get_rt_info()["runtimePrecision"].astype(str)
        for node in engine.get_runtime_model().get_ops()
        if node.get_rt_info()["layerType"].astype(str) == "Convolution"
    )
    assert set(precisions) <= {"u8", "i8"}
    results = engine(photographs)
    actual = np.stack([results[name] for name in ("conv0", "conv1")])
    np.testing.assert_allclose(actual, run(rewritten, photographs), rtol=1e-3, atol=1e-3)
