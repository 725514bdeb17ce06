from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from adq_edge.quantization.passes.frame import run_passes
from adq_edge.quantization.passes.resize import resize_by_sums

SIDES = st.integers(1, 9)


def model(size, scales=None, sizes=None, **attributes) -> onnx.ModelProto:
    inputs = ["x", "", "scales", ""] if sizes is None else ["x", "", "", "sizes"]
    constants = {"scales": np.float32(scales)} if sizes is None else {"sizes": np.int64(sizes)}
    node = helper.make_node("Resize", inputs[: 3 if sizes is None else 4], ["y"], "resize", **attributes)
    graph = helper.make_graph(
        [node, helper.make_node("Identity", ["y"], ["z"])],
        "maps",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2, *size])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["N", 2, "h", "w"])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 17)])


def run(graph: onnx.ModelProto, maps: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": maps})[0]


@settings(deadline=None, max_examples=40)
@given(SIDES, SIDES, st.integers(2, 5), st.integers(2, 5))
def test_sums_of_neighbors_enlarge_as_resize_does(height: int, width: int, rows: int, columns: int):
    maps = np.random.default_rng(height).normal(size=(3, 2, height, width)).astype(np.float32)
    original = model(
        (height, width),
        scales=[1, 1, rows, columns],
        mode="linear",
        coordinate_transformation_mode="pytorch_half_pixel",
    )
    rewritten = run_passes(original, (resize_by_sums,))
    assert "Resize" not in {node.op_type for node in rewritten.graph.node}
    np.testing.assert_allclose(run(rewritten, maps), run(original, maps), atol=1e-5)


def test_other_ways_to_resize_stay():
    kept = [
        model((4, 4), scales=[1, 1, 2, 2], mode="nearest"),
        model((4, 4), scales=[1, 1, 2, 2], mode="cubic"),
        model((4, 4), scales=[1, 1, 2, 2], mode="linear", coordinate_transformation_mode="align_corners"),
        model((4, 4), scales=[1, 1, 0.5, 0.5], mode="linear"),
    ]
    for graph in kept:
        rewritten = run_passes(graph, (resize_by_sums,))
        assert [node.op_type for node in rewritten.graph.node] == ["Resize", "Identity"]
