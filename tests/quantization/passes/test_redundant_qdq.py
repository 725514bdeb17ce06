from __future__ import annotations

import collections
from typing import Dict, List, Optional, Sequence

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from adq_edge.quantization.passes.frame import run_passes
from adq_edge.quantization.passes.redundant_qdq import drop_repeated_pairs

SIZE = 8
GRID, COARSER = (0.04, 121), (0.08, 121)


class Graph:
    """A Q/DQ graph over a float image `[1, 4, SIZE, SIZE]`."""

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
        """Add a Q/DQ pair with constants of its own, as adq-edge writes it."""
        numbers = [np.float32(grid[0]), np.uint8(grid[1])]
        quantized = self.add("QuantizeLinear", [tensor, *(self.constant(np.array(n)) for n in numbers)])
        return self.add("DequantizeLinear", [quantized, *(self.constant(np.array(n)) for n in numbers)])

    def convolution(self, tensor: str, inputs: int, outputs: int) -> str:
        """Convolve 1x1 with random int8 weights."""
        levels = np.random.default_rng(0).integers(-127, 128, (outputs, inputs, 1, 1), np.int8)
        scales, zeros = np.full(outputs, 1 / 127, np.float32), np.zeros(outputs, np.int8)
        constants = [self.constant(value) for value in (levels, scales, zeros)]
        return self.add("Conv", [tensor, self.add("DequantizeLinear", constants, axis=0)])

    def model(self, *outputs: str) -> onnx.ModelProto:
        image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 4, SIZE, SIZE])
        made = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 4) for name in outputs]
        graph = helper.make_graph(self.nodes, "test", [image], made, self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model, full_check=True)
        return model


def count(model: onnx.ModelProto, operator: str) -> int:
    return sum(node.op_type == operator for node in model.graph.node)


def run(model: onnx.ModelProto) -> List[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    image = np.random.default_rng(0).normal(0, 3, (1, 4, SIZE, SIZE)).astype(np.float32)
    return session.run(None, {"image": image})


def check_drop(model: onnx.ModelProto, pairs: Optional[int] = None) -> onnx.ModelProto:
    """Check that the pass changes no result and leaves `pairs` pairs, all by default."""
    dropped = run_passes(model, (drop_repeated_pairs,))
    onnx.checker.check_model(dropped, full_check=True)
    for expected, actual in zip(run(model), run(dropped)):
        np.testing.assert_array_equal(actual, expected)
    left = count(model, "QuantizeLinear") if pairs is None else pairs
    assert count(dropped, "QuantizeLinear") == count(dropped, "DequantizeLinear") == left
    return dropped


def test_pair_behind_a_movement_of_rounded_values_is_dropped():
    graph = Graph()
    moved = graph.add("DepthToSpace", [graph.pair("image")], blocksize=2)
    dropped = check_drop(graph.model(graph.add("Relu", [graph.pair(moved)])), pairs=1)
    assert len(dropped.graph.initializer) == 4  # a scale and a zero point for each of Q and DQ


def test_chain_of_movements_keeps_only_its_first_pair():
    """As in the dense form of a patch network: pooled at several shifts, sliced, stacked."""
    graph = Graph()
    rounded, parts = graph.pair("image"), []
    for shift in (0, 1):
        pooled = graph.add(
            "MaxPool", [rounded], kernel_shape=[2, 2], strides=[2, 2], pads=[shift, 0, shift, 0]
        )
        bounds = [graph.constant(np.array([number])) for number in (0, 4, 2)]
        parts.append(graph.pair(graph.add("Slice", [graph.pair(pooled), *bounds])))
    stacked = graph.pair(graph.add("Concat", parts, axis=0))
    dropped = check_drop(
        graph.model(graph.add("Relu", [stacked])), pairs=2
    )  # the other one is behind the stack
    assert count(dropped, "MaxPool") == 3


@pytest.mark.parametrize("case", ["another grid", "two grids", "computed", "not rounded", "an output"])
def test_pair_that_changes_values_stays(case: str):
    graph = Graph()
    if case == "two grids":
        both = [graph.pair("image"), graph.pair("image", COARSER)]
        read = graph.add("Concat", both, axis=1)
    elif case == "computed":
        read = graph.add("Add", [graph.pair("image")] * 2)
    else:
        source = "image" if case == "not rounded" else graph.pair("image")
        read = graph.add("DepthToSpace", [source], blocksize=2)
    rounded = graph.pair(read, COARSER if case == "another grid" else GRID)
    check_drop(graph.model(rounded if case == "an output" else graph.add("Relu", [rounded])))


def test_openvino_stays_in_integers_between_convolutions():
    """With both pairs OpenVINO rounds the moved tensor again, in float32."""
    openvino = pytest.importorskip("openvino")
    graph = Graph()

    def enlarged(tensor: str) -> str:
        return graph.pair(graph.add("DepthToSpace", [graph.pair(tensor)], blocksize=2))

    rounded = graph.pair("image")
    beside = enlarged(graph.convolution(rounded, 4, 64))
    main = enlarged(graph.add("Relu", [graph.convolution(rounded, 4, 64)]))
    main = graph.pair(graph.convolution(main, 16, 16))
    joined = graph.pair(graph.add("Relu", [graph.add("Add", [main, beside])]))
    model = graph.model(graph.convolution(joined, 16, 8))

    before, after = (
        compiled(openvino, given) for given in (model, run_passes(model, (drop_repeated_pairs,)))
    )
    assert after["Subgraph"] < before["Subgraph"]


def test_openvino_convolves_stacked_maps_in_integers():
    """Without the pooling of one pixel OpenVINO convolves the stacked maps in float32."""
    openvino = pytest.importorskip("openvino")
    graph = Graph()
    first = graph.pair(graph.add("Relu", [graph.convolution(graph.pair("image"), 4, 64)]), (0.04, 3))
    pooled = [
        graph.pair(
            graph.add("MaxPool", [first], kernel_shape=[2, 2], strides=[2, 2], pads=[0] * 4), (0.04, 3)
        )
        for _ in range(3)
    ]
    stacked = graph.pair(graph.add("Concat", pooled, axis=0), (0.04, 3))
    model = graph.model(graph.convolution(stacked, 64, 64))
    before, after = (
        compiled(openvino, given) for given in (model, run_passes(model, (drop_repeated_pairs,)))
    )
    assert before["Convolution:f32"] > 0
    assert after["Convolution:f32"] == 0


def compiled(openvino, model: onnx.ModelProto) -> Dict[str, int]:
    """Count the kinds of OpenVINO's nodes, each also with its precision."""
    core = openvino.Core()
    engine = core.compile_model(
        core.read_model(model.SerializeToString()), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    found: Dict[str, int] = collections.Counter()
    for node in engine.get_runtime_model().get_ops():
        info = {key: node.get_rt_info()[key].astype(str) for key in ("layerType", "runtimePrecision")}
        found[info["layerType"]] += 1
        found[f"{info['layerType']}:{info['runtimePrecision']}"] += 1
    return found
