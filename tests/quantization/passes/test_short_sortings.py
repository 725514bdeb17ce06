"""Sortings of which only the first values are read."""

from __future__ import annotations

from typing import Sequence

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from adq_edge.quantization.passes.frame import run_passes
from adq_edge.quantization.passes.short_sortings import shorten_sortings


def sorting(cut: Sequence[int], reader: str = "Slice", **attributes: int) -> onnx.ModelProto:
    """Make a sorting of 12 values along axis 1; a Slice (start, end, axis, step) reads the values."""
    names = ("start", "end", "axis", "step")[: len(cut)]
    constants = [numpy_helper.from_array(np.array([value]), name) for name, value in zip(names, cut)]
    constants.append(numpy_helper.from_array(np.array([12]), "k"))
    nodes = [
        helper.make_node("TopK", ["x", "k"], ["values", "indices"], axis=1, **attributes),
        helper.make_node(reader, ["values", *(names if reader == "Slice" else ())], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 12])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, None])],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def sorted_values(model: onnx.ModelProto) -> int:
    (node,) = (node for node in model.graph.node if node.op_type == "TopK")
    (count,) = (tensor for tensor in model.graph.initializer if tensor.name == node.input[1])
    return int(numpy_helper.to_array(count).item())


@pytest.mark.parametrize("cut", [(0, 3, 1, 1), (0, 3, -1), (1, 3, 1, 1)])
@pytest.mark.parametrize("largest", [0, 1])
def test_sorting_ends_where_its_slice_ends(cut: Sequence[int], largest: int):
    model = sorting(cut, largest=largest)
    short = run_passes(model, (shorten_sortings,))
    assert sorted_values(short) == 3
    values = np.random.default_rng(0).integers(0, 6, (2, 12)).astype(np.float32)
    before, after = (
        onnxruntime.InferenceSession(each.SerializeToString(), providers=["CPUExecutionProvider"]).run(
            None, {"x": values}
        )[0]
        for each in (model, short)
    )
    np.testing.assert_array_equal(after, before)


@pytest.mark.parametrize(
    "model",
    [
        sorting((0, 3, 0, 1)),
        sorting((0, 3)),
        sorting((-3, 12, 1, 1)),
        sorting((0, -1, 1, 1)),
        sorting((0, 8, 1, 2)),
        sorting((0, 3, 1, 1), sorted=0),
        sorting((0, 3, 1, 1), reader="Relu"),
    ],
    ids=["other axis", "default axis", "from the end", "to the end", "step", "unsorted", "other reader"],
)
def test_sorting_of_which_more_is_read_stays(model: onnx.ModelProto):
    assert sorted_values(run_passes(model, (shorten_sortings,))) == 12
