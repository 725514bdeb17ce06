"""Kernel sizes and paddings that a graph leaves to the runtime."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from adq_edge.quantization.graph.index import attribute
from adq_edge.quantization.passes.explicit_convolutions import state_kernels_and_pads
from adq_edge.quantization.passes.frame import run_passes


def run(model: onnx.ModelProto, image: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": image})[0]


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize(("kernel", "stride", "dilation"), [(3, 2, 1), (4, 1, 1), (2, 1, 1), (5, 3, 1)])
def test_computed_paddings_become_attributes(mode: str, kernel: int, stride: int, dilation: int):
    generator = np.random.default_rng(0)
    weight = generator.standard_normal((2, 3, kernel, kernel)).astype(np.float32)
    node = helper.make_node(
        "Conv", ["x", "w"], ["y"], "c", auto_pad=mode, strides=[stride] * 2, dilations=[dilation] * 2
    )
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 14, 11])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2, None, None])],
        [numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    explicit = run_passes(model, (state_kernels_and_pads,))
    (written,) = explicit.graph.node
    assert attribute(written, "auto_pad") is None
    assert attribute(written, "kernel_shape") == [kernel] * 2
    image = generator.standard_normal((1, 3, 14, 11)).astype(np.float32)
    np.testing.assert_allclose(run(explicit, image), run(model, image), rtol=1e-5, atol=1e-5)
