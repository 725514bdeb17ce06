"""The split of graphs of other tools into networks, which INT8 engines quantize, and scoring."""

from __future__ import annotations

from typing import Dict, Set

import onnx
import pytest

from adq_edge.artifacts.bundle import INPUT
from adq_edge.quantization.float_model import FloatModel
from adq_edge.quantization.graph.index import GraphIndex, attribute
from adq_edge.quantization.network_layers import WEIGHTED
from adq_edge.quantization.region import find_region
from factories.foreign_networks import KINDS, foreign_graph

SCORING: Dict[str, Set[str]] = {
    "Mahalanobis": {"/MatMul"},
    "SharedCovariance": {"/MatMul"},
    "NearestNeighbor": {"/MatMul", "/MatMul_1"},
    "Flow": {"/Conv", "/Conv_1", *(f"/subnets.{i}/subnets.{i}.{j}/Conv" for i in (0, 1) for j in (0, 2))},
    "PrincipalComponents": {"/MatMul", "/MatMul_1"},
    "Density": {"/MatMul"},
    "TwoUNets": {"/segment/last/Conv", "/blur/Conv"},
    "Codebook": {"/MatMul"},
    "Discriminator": {"/segment/segment.1/Conv", "/classify/classify.4/Gemm"},
    "Transformer": {
        "/decoder.1/shrink/MatMul",  # only the cosine follows it
        *(
            f"/{part}.{i}/MatMul{end}"
            for part in ("encoder", "decoder")
            for i in (0, 1)
            for end in ("", "_1")
        ),
    },
}
"""Weighted operators that stay float32, by kind; all others belong to networks."""

STEPS = {
    "TwoUNets": {"/rebuild/MaxPool", "/rebuild/Concat", "/segment/MaxPool", "/segment/Concat", "/Concat"},
    "TeacherStudent": {f"/{name}/{name}.2/AveragePool" for name in ("teacher", "student")},
    "Mobile": {
        f"/networks.{i}/networks.{i}.{j}/{name}"
        for i in (0, 1)
        for j in (1, 2)
        for name in ("squeeze/GlobalAveragePool", "squeeze/Mul", "Add")
    },
    "Discriminator": {"/AveragePool", "/AveragePool_1"},
    "Mahalanobis": set(),
    "Next": set(),
    "PreActivated": {"/Add", "/Add_1"},
}
"""Operators without weights that INT8 engines may compute in integers, apart from pure movements."""


@pytest.mark.parametrize("kind", KINDS)
def test_the_region_holds_the_layers_of_networks_and_none_of_the_scoring(kind: str):
    model = FloatModel.of(foreign_graph(kind))
    quantized = {step.node.name for step in model.region.steps}
    weighted = {node.name for node in model.index.of_type(*WEIGHTED)}
    assert weighted - quantized == SCORING.get(kind, set())


@pytest.mark.parametrize("kind", STEPS)
def test_operators_between_layers_belong_to_the_region(kind: str):
    model = FloatModel.of(foreign_graph(kind))
    moves = {"Reshape", "Slice", "Split", "Transpose"}
    others = {step.node.name for step in model.region.steps if step.node.op_type not in WEIGHTED | moves}
    assert others == STEPS[kind]


def test_attention_and_normalization_stay_float32_where_layers_may_be_float16():
    model = FloatModel.of(foreign_graph("Transformer"))
    half = {node.op_type for node in model.index.nodes if node.output[0] in model.region.outputs}
    assert not half & {"LayerNormalization", "Softmax", "Sqrt", "ReduceSum"}
    assert "Erf" in half


def forward_region(index: GraphIndex) -> Set[str]:
    """Return the outputs of the region by the rule for own methods: grow from the image without a gap."""
    image, outputs = {INPUT}, set()
    for node in index.nodes:
        inputs = index.activations(node)
        before = {"Add", "Cast", "Div", "Mul", "Pad", "Slice", "Sub", "Transpose"}
        if node.op_type in before and len(inputs) == 1 and inputs[0] in image:
            image.update(node.output)
            continue
        moves = node.op_type in {"Concat", "DepthToSpace", "Reshape", "Slice", "Split", "Transpose"} or (
            node.op_type == "Pad" and attribute(node, "mode", b"constant") == b"constant"
        )
        if node.op_type in WEIGHTED:
            belongs = len(inputs) == 1 and inputs[0] in outputs | image
        elif node.op_type == "Add":
            belongs = len(inputs) > 1 and outputs.issuperset(inputs)
        else:
            known = moves or node.op_type in {"LeakyRelu", "MaxPool", "Relu"}
            belongs = known and bool(inputs) and outputs.issuperset(inputs)
        if belongs:
            outputs.update(node.output)
    return outputs


@pytest.mark.parametrize("name", ["bundle", "narrow_bundle", "tiny_bundle"])
def test_own_methods_keep_the_region_that_grows_from_the_image(name: str, request: pytest.FixtureRequest):
    index = GraphIndex(onnx.load(str(request.getfixturevalue(name).model)).graph)
    assert find_region(index).outputs == forward_region(index)
