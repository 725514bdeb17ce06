"""InstanceNormalization as its formula, for TensorRT, which would read it as a plugin."""

from __future__ import annotations

from typing import List

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from adq_edge.core.options import Precision, Route
from adq_edge.quantization.graph.tensorrt_lint import lint
from adq_edge.quantization.passes import pipelines
from adq_edge.quantization.passes.frame import run_passes
from adq_edge.quantization.passes.instance_normalization import split_instance_normalizations


def normalization(shape: List[int], epsilon: float) -> onnx.ModelProto:
    generator = np.random.default_rng(shape[1])
    weights = [
        numpy_helper.from_array(generator.normal(1, 0.5, shape[1]).astype(np.float32), name) for name in "sb"
    ]
    node = helper.make_node("InstanceNormalization", ["x", "s", "b"], ["y"], "norm", epsilon=epsilon)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *shape[1:]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", *shape[1:]])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0]


@settings(deadline=None, max_examples=20)
@given(
    st.lists(st.integers(1, 5), min_size=3, max_size=5),
    st.floats(1e-6, 1e-2),
    st.floats(0.1, 50),
    st.integers(0, 99),
)
def test_formula_equals_the_operator(shape: List[int], epsilon: float, spread: float, seed: int):
    model = normalization(shape, epsilon)
    formula = run_passes(model, (split_instance_normalizations,))
    assert "InstanceNormalization" not in {node.op_type for node in formula.graph.node}
    x = np.random.default_rng(seed).normal(3, spread, shape).astype(np.float32)
    np.testing.assert_allclose(run(formula, x), run(model, x), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("route", [Route.IMPLICIT, Route.EXPLICIT])
def test_engines_of_weakly_typed_networks_need_no_plugin(route: Route):
    model = normalization([1, 4, 8, 8], 1e-5)
    assert any("plugin" in fault for fault in lint(model))
    for precision in (Precision.FP32, Precision.FP16):
        assert lint(run_passes(model, pipelines.TENSORRT[route][precision])) == []
