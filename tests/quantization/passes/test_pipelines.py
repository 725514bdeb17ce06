from __future__ import annotations

import itertools
from typing import List

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from adq_edge.core.options import COMMON_PRECISIONS, Precision, Route
from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.passes import pipelines
from adq_edge.quantization.passes.frame import GraphPass, PassContext, run_passes
from adq_edge.quantization.passes.own_constants import own_constants
from adq_edge.quantization.passes.small_file import shorten_names
from adq_edge.quantization.rounding import RoundedWeight


def all_passes() -> List[GraphPass]:
    tables = (
        *(pipelines.CPU, pipelines.ONNXRUNTIME, pipelines.OPENVINO, pipelines.EMULATION),
        *pipelines.TENSORRT.values(),
    )
    listed = [pipelines.EXPORT, *itertools.chain(*(table.values() for table in tables))]
    return [rewrite for rewrite in dict.fromkeys(itertools.chain(*listed)) if rewrite is not shorten_names]


def test_every_target_lists_every_precision():
    assert set(pipelines.TENSORRT) == set(Route)
    common = (
        pipelines.CPU,
        pipelines.ONNXRUNTIME,
        *(pipelines.TENSORRT[r] for r in Route if r is not Route.TYPED),
    )
    for table in common:
        assert set(table) == set(COMMON_PRECISIONS)
    assert set(pipelines.OPENVINO) == {*COMMON_PRECISIONS, Precision.BF16}
    assert set(pipelines.TENSORRT[Route.TYPED]) == {*COMMON_PRECISIONS, Precision.FP8}
    assert set(pipelines.EMULATION) == {*COMMON_PRECISIONS, Precision.FP8}


@pytest.mark.parametrize("rewrite", all_passes(), ids=lambda rewrite: rewrite.__name__)
def test_pass_leaves_a_graph_without_its_pattern_unchanged(rewrite: GraphPass):
    nodes = [
        helper.make_node("Cast", ["image"], ["values"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Div", ["values", "scale"], ["anomaly_map"], "divide"),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", 8, 8, 3])
    result = helper.make_tensor_value_info("anomaly_map", TensorProto.FLOAT, ["N", 8, 8, 3])
    scale = numpy_helper.from_array(np.float32(255), "scale")
    graph = helper.make_graph(nodes, "g", [image], [result], [scale])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if rewrite is own_constants:
        model.graph.node[1].input[1] = model.graph.initializer[0].name = "divide.input1"
    assert run_passes(model, (rewrite,)) == model


def test_run_passes_leaves_the_callers_context_unchanged():
    def change(editor: GraphEditor, context: PassContext) -> None:
        context.rounding = {"changed": RoundedWeight(np.zeros(1), np.ones(1))}

    context = PassContext()
    model = helper.make_model(helper.make_graph([], "g", [], []), opset_imports=[helper.make_opsetid("", 17)])
    run_passes(model, (change,), context)
    assert context == PassContext()
