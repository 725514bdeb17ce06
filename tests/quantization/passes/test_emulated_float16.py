"""The emulation of float16 layers against numpy."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from adq_edge.core.options import Precision
from adq_edge.quantization.passes.frame import run_passes
from adq_edge.quantization.passes.pipelines import EMULATION

SIZE, CHANNELS = 4, 8


def network() -> onnx.ModelProto:
    """Return a network of 1x1 convolutions with a residual addition, and features as scale map."""
    generator = np.random.default_rng(0)
    weights = {
        "w0": generator.standard_normal((CHANNELS, 3, 1, 1)) / 100,
        "w1": generator.standard_normal((CHANNELS, CHANNELS, 1, 1)),
        "b1": generator.standard_normal(CHANNELS),
        "w2": generator.standard_normal((CHANNELS, CHANNELS, 1, 1)),
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["x0"], "transpose", perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["x0", "w0"], ["c0"], "conv0", kernel_shape=[1, 1]),
        helper.make_node("Relu", ["c0"], ["r0"], "relu0"),
        helper.make_node("Conv", ["r0", "w1", "b1"], ["c1"], "conv1", kernel_shape=[1, 1]),
        helper.make_node("Add", ["c1", "r0"], ["a1"], "add1"),
        helper.make_node("Relu", ["a1"], ["r1"], "relu1"),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], "conv2", kernel_shape=[1, 1]),
        helper.make_node("Relu", ["c2"], ["r2"], "relu2"),
        helper.make_node("Sub", ["r2", "r1"], ["d"], "sub"),
        helper.make_node("Mul", ["d", "d"], ["s"], "square"),
        helper.make_node("ReduceSum", ["s", "axes"], ["anomaly_map"], "map", keepdims=0),
        helper.make_node("ReduceMax", ["anomaly_map"], ["anomaly_score"], "score", axes=[1, 2], keepdims=0),
    ]
    constants = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
    constants.append(numpy_helper.from_array(np.array([1], np.int64), "axes"))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [None, SIZE, SIZE, 3])],
        [
            helper.make_tensor_value_info("anomaly_map", TensorProto.FLOAT, [None, SIZE, SIZE]),
            helper.make_tensor_value_info("anomaly_score", TensorProto.FLOAT, [None]),
        ],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def half(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float16).astype(np.float64)


def test_tensors_between_kernels_are_rounded_once():
    model = network()
    constant = {tensor.name: half(numpy_helper.to_array(tensor)) for tensor in model.graph.initializer}
    images = np.random.default_rng(1).integers(0, 256, (2, SIZE, SIZE, 3), np.uint8)

    def convolve(x: np.ndarray, weight: str) -> np.ndarray:
        return np.einsum("oc,nchw->nohw", constant[weight][:, :, 0, 0], x)

    r0 = half(np.maximum(convolve(images.transpose(0, 3, 1, 2).astype(np.float64), "w0"), 0))
    r1 = half(np.maximum(convolve(r0, "w1") + constant["b1"][:, None, None] + r0, 0))
    r2 = half(np.maximum(convolve(r1, "w2"), 0))
    expected = ((r2 - r1) ** 2).sum(1)

    emulated = run_passes(model, EMULATION[Precision.FP16])
    assert all(tensor.data_type != TensorProto.FLOAT16 for tensor in emulated.graph.initializer)
    session = onnxruntime.InferenceSession(emulated.SerializeToString())
    maps, _ = session.run(None, {"image": images})
    np.testing.assert_allclose(maps, expected, rtol=1e-5)
