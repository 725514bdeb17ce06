"""Operators of opset 18 and newer, written in opset 17."""

from __future__ import annotations

from typing import Dict, List

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from adq_edge.core.errors import ForeignModelError
from adq_edge.quantization.passes.frame import run_passes
from adq_edge.quantization.passes.pipelines import IMPORT


def one_node(
    node: onnx.NodeProto, shape: List[int], constants: Dict[str, np.ndarray], opset: int
) -> onnx.ModelProto:
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * len(shape))],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def require_same_function(model: onnx.ModelProto, shape: List[int]) -> onnx.ModelProto:
    """Write a model in opset 17, and compare both on random values."""
    older = run_passes(model, IMPORT)
    assert [item.version for item in older.opset_import] == [17]
    values = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    results = [
        onnxruntime.InferenceSession(each.SerializeToString(), providers=["CPUExecutionProvider"]).run(
            None, {"x": values}
        )[0]
        for each in (model, older)
    ]
    np.testing.assert_allclose(results[1], results[0], rtol=1e-5, atol=1e-5)
    return older


@pytest.mark.parametrize(("opset", "count"), [(18, 2), (21, 6)])
@pytest.mark.parametrize("shape", [[3, 6, 5, 4], [2, 6, 7]])
def test_group_normalization_is_written_as_instance_normalization(opset: int, count: int, shape: List[int]):
    chance = np.random.default_rng(0)
    constants = {name: chance.standard_normal(count).astype(np.float32) for name in ("scale", "bias")}
    node = helper.make_node("GroupNormalization", ["x", "scale", "bias"], ["y"], num_groups=2, epsilon=1e-3)
    require_same_function(one_node(node, shape, constants, opset), shape)


@pytest.mark.parametrize("size", [(5, 4), (11, 3), (3, 24), (11, 14), (22, 28)])
@pytest.mark.parametrize("rule", ["half_pixel", "pytorch_half_pixel"])
def test_a_resize_with_antialias_keeps_its_function(size, rule: str):
    shape = [2, 3, 11, 14]
    node = helper.make_node(
        "Resize", ["x", "", "", "sizes"], ["y"], mode="linear", antialias=1,
        coordinate_transformation_mode=rule,
    )  # fmt: skip
    require_same_function(one_node(node, shape, {"sizes": np.array([2, 3, *size])}, 18), shape)


def test_a_cubic_resize_with_antialias_is_refused_by_name():
    node = helper.make_node("Resize", ["x", "", "", "sizes"], ["y"], "half", mode="cubic", antialias=1)
    model = one_node(node, [1, 3, 8, 8], {"sizes": np.array([1, 3, 4, 4])}, 18)
    with pytest.raises(ForeignModelError, match=r"half: Resize uses antialias.*opset_version=17"):
        run_passes(model, IMPORT)


@pytest.mark.parametrize("widths", [[0, 0, 1, 2, 0, 0, 3, 1], [0, 1, 0, 0, 0, 0, 0, 4]])
def test_padding_that_wraps_around_is_written_as_slices(widths: List[int]):
    shape = [2, 3, 5, 4]
    node = helper.make_node("Pad", ["x", "widths"], ["y"], mode="wrap")
    model = one_node(node, shape, {"widths": np.array(widths, np.int64)}, 19)
    older = require_same_function(model, shape)
    assert {each.op_type for each in older.graph.node} <= {"Concat", "Identity", "Slice"}


def test_padding_that_wraps_around_more_than_once_is_refused():
    node = helper.make_node("Pad", ["x", "widths"], ["y"], mode="wrap")
    model = one_node(node, [1, 2, 3, 4], {"widths": np.array([0, 0, 0, 5, 0, 0, 0, 0], np.int64)}, 19)
    with pytest.raises(ForeignModelError, match="wraps around more than once"):
        run_passes(model, IMPORT)


def test_one_hot_takes_indices_from_the_end():
    node = helper.make_node("OneHot", ["x", "depth", "values"], ["y"])
    constants = {"depth": np.array(4, np.int64), "values": np.array([0, 1], np.float32)}
    check_one_hot(node, constants, np.array([0, 3, -1, -4, 4, -5], np.int64), 2)


def test_one_hot_by_scatter_takes_indices_of_32_bits():
    node = helper.make_node("ScatterElements", ["zeros", "x", "ones"], ["y"], axis=1)
    constants = {"zeros": np.zeros((3, 4), np.float32), "ones": np.ones((3, 1), np.float32)}
    check_one_hot(node, constants, np.array([[0], [3], [-1]], np.int32), 2)


def check_one_hot(node: onnx.NodeProto, constants: Dict[str, np.ndarray], index: np.ndarray, rank: int):
    """Check that the passes replace a node and keep its function."""
    model = one_node(node, list(index.shape), constants, 17)
    model.graph.input[0].type.tensor_type.elem_type = helper.np_dtype_to_tensor_dtype(index.dtype)
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * rank))
    changed = run_passes(model, IMPORT)
    assert {each.op_type for each in changed.graph.node}.isdisjoint({"OneHot", "ScatterElements"})
    sessions = (onnxruntime.InferenceSession(each.SerializeToString()) for each in (model, changed))
    wanted, found = (session.run(None, {"x": index})[0] for session in sessions)
    np.testing.assert_array_equal(found, wanted)
