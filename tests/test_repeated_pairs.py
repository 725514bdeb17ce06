from __future__ import annotations

from typing import List, Optional, Sequence

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from adq_edge.quantization.repeated_pairs import drop_repeated_pairs

SIZE = 8
GRID, COARSER = (0.04, 121), (0.08, 121)


class Graph:
    """A Q/DQ graph over a float picture `[1, 4, SIZE, SIZE]`."""

    def __init__(self) -> None:
        self.nodes: List[onnx.NodeProto] = []
        self.constants: List[onnx.TensorProto] = []

    def add(self, operator: str, inputs: Sequence[str], **attributes) -> str:
        name = f"{operator}{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name, **attributes))
        return name

    def constant(self, value: np.ndarray) -> str:
        name = f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def pair(self, tensor: str, grid=GRID) -> str:
        """Round as adq-edge does: each pair has constants of its own."""
        numbers = [np.float32(grid[0]), np.uint8(grid[1])]
        quantized = self.add("QuantizeLinear", [tensor, *(self.constant(np.array(n)) for n in numbers)])
        return self.add("DequantizeLinear", [quantized, *(self.constant(np.array(n)) for n in numbers)])

    def model(self, *outputs: str) -> onnx.ModelProto:
        picture = helper.make_tensor_value_info("picture", TensorProto.FLOAT, [1, 4, SIZE, SIZE])
        made = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 4) for name in outputs]
        graph = helper.make_graph(self.nodes, "test", [picture], made, self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model, full_check=True)
        return model


def count(model: onnx.ModelProto, operator: str) -> int:
    return sum(node.op_type == operator for node in model.graph.node)


def run(model: onnx.ModelProto) -> List[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    picture = np.random.default_rng(0).normal(0, 3, (1, 4, SIZE, SIZE)).astype(np.float32)
    return session.run(None, {"picture": picture})


def agree(model: onnx.ModelProto, pairs: Optional[int] = None) -> onnx.ModelProto:
    """Check that dropping changes no number, and leaves so many pairs."""
    dropped = drop_repeated_pairs(model)
    onnx.checker.check_model(dropped, full_check=True)
    for expected, actual in zip(run(model), run(dropped)):
        np.testing.assert_array_equal(actual, expected)
    left = count(model, "QuantizeLinear") if pairs is None else pairs
    assert count(dropped, "QuantizeLinear") == count(dropped, "DequantizeLinear") == left
    return dropped


def test_a_pair_behind_a_movement_of_rounded_values_goes():
    graph = Graph()
    moved = graph.add("DepthToSpace", [graph.pair("picture")], blocksize=2)
    dropped = agree(graph.model(graph.add("Relu", [graph.pair(moved)])), pairs=1)
    assert len(dropped.graph.initializer) == 4  # a scale and a zero point for each of Q and DQ


def test_a_chain_keeps_its_first_pair_alone():
    """As in the dense form of a patch network: pooled at several shifts, cut, stacked."""
    graph = Graph()
    rounded, parts = graph.pair("picture"), []
    for shift in (0, 1):
        pooled = graph.add(
            "MaxPool", [rounded], kernel_shape=[2, 2], strides=[2, 2], pads=[shift, 0, shift, 0]
        )
        bounds = [graph.constant(np.array([number])) for number in (0, 4, 2)]
        parts.append(graph.pair(graph.add("Slice", [graph.pair(pooled), *bounds])))
    stacked = graph.pair(graph.add("Concat", parts, axis=0))
    agree(graph.model(graph.add("Relu", [stacked])), pairs=1)


@pytest.mark.parametrize("case", ["another grid", "two grids", "computed", "not rounded", "an output"])
def test_a_pair_that_does_something_stays(case: str):
    graph = Graph()
    if case == "two grids":
        both = [graph.pair("picture"), graph.pair("picture", COARSER)]
        read = graph.add("Concat", both, axis=1)
    elif case == "computed":
        read = graph.add("Add", [graph.pair("picture")] * 2)
    else:
        source = "picture" if case == "not rounded" else graph.pair("picture")
        read = graph.add("DepthToSpace", [source], blocksize=2)
    rounded = graph.pair(read, COARSER if case == "another grid" else GRID)
    agree(graph.model(rounded if case == "an output" else graph.add("Relu", [rounded])))


def test_openvino_stays_in_integers_between_convolutions():
    """What the pass is for: with both pairs OpenVINO rounds the moved tensor again, in float32."""
    openvino = pytest.importorskip("openvino")
    graph, rng = Graph(), np.random.default_rng(0)

    def convolution(tensor: str, inputs: int, outputs: int) -> str:
        levels = graph.constant(rng.integers(-127, 128, (outputs, inputs, 1, 1), np.int8))
        scales = graph.constant(np.full(outputs, 1 / 127, np.float32))
        zeros = graph.constant(np.zeros(outputs, np.int8))
        weight = graph.add("DequantizeLinear", [levels, scales, zeros], axis=0)
        return graph.add("Conv", [tensor, weight])

    def enlarged(tensor: str) -> str:
        return graph.pair(graph.add("DepthToSpace", [graph.pair(tensor)], blocksize=2))

    rounded = graph.pair("picture")
    beside = enlarged(convolution(rounded, 4, 64))
    main = enlarged(graph.add("Relu", [convolution(rounded, 4, 64)]))
    main = graph.pair(convolution(main, 16, 16))
    joined = graph.pair(graph.add("Relu", [graph.add("Add", [main, beside])]))
    model = graph.model(convolution(joined, 16, 8))

    def rounded_again(given: onnx.ModelProto) -> int:
        core = openvino.Core()
        compiled = core.compile_model(core.read_model(given.SerializeToString()), "CPU")
        nodes = (node.get_rt_info() for node in compiled.get_runtime_model().get_ops())
        return sum(node["layerType"].astype(str) == "Subgraph" for node in nodes)

    assert rounded_again(drop_repeated_pairs(model)) < rounded_again(model)
