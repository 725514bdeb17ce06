"""Parts of a model, by the names of its nodes or by its structure."""

from __future__ import annotations

from typing import Dict, List

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from adq_edge.quantization.float_model import FloatModel
from adq_edge.quantization.layer_groups import MOST_GROUPS, group_layers


def two_networks(names: Dict[int, str]) -> FloatModel:
    """Return two networks of six convolutions; the third of each halves the size. Names by number."""
    nodes = [
        helper.make_node("Cast", ["image"], ["cast"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["cast"], ["x"], "transpose", perm=[0, 3, 1, 2]),
    ]
    weights: List[onnx.TensorProto] = []
    for network in range(2):
        tensor, before = "x", 3
        for layer in range(6):
            number = 6 * network + layer
            weight = numpy_helper.from_array(np.ones((4, before, 3, 3), np.float32), f"w{number}")
            weights.append(weight)
            stride = [2, 2] if layer == 2 else [1, 1]
            nodes.append(
                helper.make_node(
                    "Conv", [tensor, weight.name], [f"c{number}"], names[number], pads=[1] * 4, strides=stride
                )
            )
            nodes.append(helper.make_node("Relu", [f"c{number}"], [f"r{number}"], f"relu{number}"))
            tensor, before = f"r{number}", 4
    nodes += [
        helper.make_node("Sub", ["r5", "r11"], ["difference"], "sub"),
        helper.make_node("ReduceL2", ["difference"], ["anomaly_map"], "norm", axes=[1], keepdims=0),
        helper.make_node("ReduceMax", ["anomaly_map"], ["anomaly_score"], "max", axes=[1, 2], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "networks",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", 16, 16, 3])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
            for name in ("anomaly_map", "anomaly_score")
        ],
        weights,
    )
    return FloatModel.of(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


STAGES = ("stem.conv", "layer1.0", "layer2.0", "layer2.1", "layer3.0", "layer3.1")


@pytest.mark.parametrize("form", ["model.{}.trunk.{}", "/model/{}/trunk/{}/Conv"])
def test_names_of_modules_give_the_groups(form: str):
    networks = ("teacher", "student")
    names = {
        6 * i + j: form.format(network, stage if "/" not in form else stage.replace(".", "/"))
        for i, network in enumerate(networks)
        for j, stage in enumerate(STAGES)
    }
    groups = group_layers(two_networks(names))
    assert list(groups)[:4] == [f"teacher.trunk.{stage}" for stage in ("stem", "layer1", "layer2", "layer3")]
    assert [len(layers) for layers in groups.values()] == [1, 1, 2, 2] * 2
    assert sorted(name for layers in groups.values() for name in layers) == sorted(names.values())


@pytest.mark.parametrize("form", ["node_Conv_{}", "Conv_{}", "{}"])
def test_numbered_names_give_groups_by_network_and_size(form: str):
    groups = group_layers(two_networks({number: form.format(number) for number in range(12)}))
    assert {name: len(layers) for name, layers in groups.items()} == {
        "network 1, 16x16": 2, "network 1, 8x8": 4, "network 2, 16x16": 2, "network 2, 8x8": 4,
    }  # fmt: skip


def test_groups_are_few_enough_to_read():
    names = {number: f"net.block{number}.conv" for number in range(12)}
    groups = group_layers(two_networks({**names, 0: "other.conv"}))
    assert 2 <= len(groups) <= MOST_GROUPS
    assert sum(len(layers) for layers in groups.values()) == 12
