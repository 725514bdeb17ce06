from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from adq_edge.core.errors import CalibrationError
from adq_edge.quantization.dynamic_ranges import dynamic_ranges, float32_nodes
from adq_edge.quantization.float_model import FloatModel
from factories.activations import Ranges


def test_every_network_tensor_has_a_range(model: onnx.ModelProto, ranges: Ranges):
    amax = dynamic_ranges(FloatModel.of(model), ranges)
    assert set(FloatModel.of(model).region.tensors) <= set(amax)
    for node in model.graph.node:
        if node.op_type in ("Conv", "Relu", "MaxPool", "Add"):
            assert {node.input[0], node.output[0]} <= set(amax), node.name
    for name, (low, high) in ranges.items():
        assert amax[name] == max(-low, high)
    order = [name for node in model.graph.node for name in node.output if name in amax]
    assert list(amax) == order


def test_scoring_has_no_range_and_is_pinned(model: onnx.ModelProto, ranges: Ranges):
    pinned = set(float32_nodes(FloatModel.of(model)))
    everything = {node.name: node for node in model.graph.node}
    networks = set(everything) - pinned
    assert {everything[name].op_type for name in networks} == {"Conv", "Relu", "MaxPool", "Add"}
    assert all(name.startswith(("/teacher", "/student")) for name in networks)
    amax = dynamic_ranges(FloatModel.of(model), {**ranges, "anomaly_map": (0.0, 1.0)})
    made_by_scoring = {
        name
        for node in model.graph.node
        if node.name in pinned
        for name in node.output
        if name not in ("/Cast_output_0", "/Transpose_output_0", "/Sub_output_0", "/Mul_output_0")
    }
    assert len(made_by_scoring) == len(pinned) - 4
    assert not made_by_scoring & set(amax)


def test_poolings_and_relus_share_the_range_of_their_input(model: onnx.ModelProto, ranges: Ranges):
    amax = dynamic_ranges(FloatModel.of(model), ranges)
    assert not {node.output[0] for node in model.graph.node if node.op_type == "MaxPool"} & set(ranges)
    for node in model.graph.node:
        if node.op_type in ("MaxPool", "Relu"):
            assert amax[node.output[0]] == amax[node.input[0]] > 0


def test_first_tensors_have_the_range_of_pixels(model: onnx.ModelProto, ranges: Ranges):
    amax = dynamic_ranges(FloatModel.of(model), ranges)
    assert "image" not in amax  # uint8 has no scale
    assert amax["/Cast_output_0"] == amax["/Transpose_output_0"] == 255.0
    assert amax["/Sub_output_0"] == pytest.approx(255.0 * (1 - 0.406), rel=1e-6)  # ImageNet's smallest mean
    assert amax["/Mul_output_0"] == max(map(abs, ranges["/Mul_output_0"]))  # measured ranges win
    some = {name: r for name, r in ranges.items() if name != "/Mul_output_0"}
    with pytest.raises(CalibrationError, match=r"no range for tensor '/Mul_output_0'"):
        dynamic_ranges(FloatModel.of(model), some)


@pytest.mark.parametrize("high", [0.0, 1e-30])
def test_dead_activation_gets_a_small_positive_range(model: onnx.ModelProto, ranges: Ranges, high: float):
    dead = "/student/relu/Relu_output_0"
    amax = dynamic_ranges(FloatModel.of(model), {**ranges, dead: (0.0, high)})
    largest = max(amax[name] for name in FloatModel.of(model).region.outputs)
    assert amax[dead] == amax["/student/maxpool/MaxPool_output_0"] == pytest.approx(1e-4 * largest)
    assert min(amax.values()) == amax[dead]
    assert all(amax[name] == max(-low, high) for name, (low, high) in ranges.items() if name != dead)
    nothing = dict.fromkeys(ranges, (0.0, 0.0))
    assert {
        dynamic_ranges(FloatModel.of(model), nothing)[name] for name in FloatModel.of(model).region.outputs
    } == {1.0}


def test_missing_range_is_refused(model: onnx.ModelProto, ranges: Ranges):
    some = dict(ranges)
    removed = next(name for name in some if "layer2" in name)
    del some[removed]
    with pytest.raises(CalibrationError, match=f"no range for tensor '{removed}'"):
        dynamic_ranges(FloatModel.of(model), some)


@pytest.mark.parametrize("impossible", [(1.0, 0.0), (0.0, np.inf), (np.nan, 1.0), (-np.inf, 0.0)])
def test_impossible_range_is_refused(model: onnx.ModelProto, ranges: Ranges, impossible):
    with pytest.raises(CalibrationError, match=r"impossible range \[.*\] of '/Mul_output_0'"):
        dynamic_ranges(FloatModel.of(model), {**ranges, "/Mul_output_0": impossible})


def small_network(kind: int, nodes, constants=()) -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node(op, inputs, [output], output) for op, inputs, output in nodes],
        "g",
        [helper.make_tensor_value_info("image", kind, ["N", 1, 4, 4])],
        [helper.make_tensor_value_info(nodes[-1][2], TensorProto.FLOAT, None)],
        [
            numpy_helper.from_array(np.full((1, 1, 1, 1), value, np.float32), name)
            for name, value in (("weight", 1.0), *constants)
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_relu_that_shares_its_input_has_the_range_of_that_input():
    nodes = [
        ("Conv", ["image", "weight"], "convolved"),
        ("Relu", ["convolved"], "features"),
        ("Sub", ["convolved", "features"], "anomaly_map"),
    ]
    amax = dynamic_ranges(
        FloatModel.of(small_network(TensorProto.FLOAT, nodes)), {"image": (0, 2), "convolved": (-5, 3)}
    )
    assert amax == {"image": 2, "convolved": 5, "features": 5}


def test_any_affine_normalization_gets_ranges():
    nodes = [
        ("Div", ["image", "scale"], "unit"),
        ("Sub", ["one", "unit"], "inverted"),
        ("Add", ["inverted", "shift"], "shifted"),
        ("Conv", ["shifted", "weight"], "convolved"),
        ("Relu", ["convolved"], "features"),
        ("Sub", ["convolved", "features"], "anomaly_map"),
    ]
    constants = (("scale", 255.0), ("one", 1.0), ("shift", -3.0))
    measured = {"shifted": (-2.5, -2.0), "convolved": (-1, 1)}
    amax = dynamic_ranges(FloatModel.of(small_network(TensorProto.FLOAT, nodes, constants)), measured)
    assert amax == {"image": 255, "unit": 1, "inverted": 1, "shifted": 2.5, "convolved": 1, "features": 1}


def test_tensor_names_equal_those_of_the_tensorrt_parser(model: onnx.ModelProto, ranges: Ranges):
    from factories.rtx import RecordingLogger, trt

    logger = RecordingLogger()
    network = trt.Builder(logger).create_network(0)
    assert trt.OnnxParser(network, logger).parse(model.SerializeToString())
    layers = {layer.name: layer for layer in map(network.get_layer, range(network.num_layers))}
    kernels = {node.name for node in model.graph.node} - set(float32_nodes(FloatModel.of(model)))
    assert kernels <= set(layers)
    tensors = {
        tensor.name for name in kernels for tensor in (layers[name].get_input(0), layers[name].get_output(0))
    }
    amax = dynamic_ranges(FloatModel.of(model), ranges)
    assert tensors == set(amax) - {"/Cast_output_0", "/Transpose_output_0", "/Sub_output_0"}
    outside = {layer.type.name for name, layer in layers.items() if name not in kernels}
    assert not outside & {"CONVOLUTION", "ACTIVATION", "POOLING"}
