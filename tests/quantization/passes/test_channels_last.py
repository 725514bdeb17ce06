"""The channels-last scoring against float64 arithmetic, the original graph and the methods in torch."""

from __future__ import annotations

import io
import warnings
from collections import Counter
from typing import Any, Callable, Dict, List, Tuple

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from adq_edge.models.base import AnomalyModel
from adq_edge.models.config import ModelConfig
from adq_edge.models.reverse_distillation import ReverseDistillation
from adq_edge.models.stfpm import STFPM
from adq_edge.models.uninformed_students import UninformedStudents
from adq_edge.quantization.passes import pipelines
from adq_edge.quantization.passes.channels_last import score_channels_last
from adq_edge.quantization.passes.frame import run_passes

SUMS = {"ReduceL2", "ReduceSum"}
Node = Tuple[str, List[str], str]


def run(model: onnx.ModelProto, features: Dict[str, np.ndarray]) -> List[np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, features)


def graph(nodes: List[Node], channels: object, size: Tuple[int, int], keepdims: int) -> onnx.ModelProto:
    """Make a model of `a` and `b`, `[N, channels, *size]`."""
    kinds: Dict[str, Dict[str, Any]] = {
        "ReduceL2": {"axes": [1], "keepdims": keepdims},
        "ReduceMax": {"axes": [1]},
        "ReduceSum": {"keepdims": keepdims},
    }
    made = [
        helper.make_node(operator, inputs, [output], f"/{output}", **kinds.get(operator, {}))
        for operator, inputs, output in nodes
    ]
    shape, result = ["N", channels, *size], ["N", 1, *size] if keepdims else ["N", *size]
    return helper.make_model(
        helper.make_graph(
            made,
            "scoring",
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "ab"],
            [helper.make_tensor_value_info("out", TensorProto.FLOAT, result)],
            [
                numpy_helper.from_array(np.asarray([1]), "axis"),
                numpy_helper.from_array(np.asarray(1e-6, np.float32), "epsilon"),
                numpy_helper.from_array(np.asarray(0.5, np.float32), "half"),
                *(
                    [numpy_helper.from_array(means(channels)[:, None, None], "means")]
                    if isinstance(channels, int)
                    else []
                ),
            ],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )


def means(channels: int) -> np.ndarray:
    return np.linspace(-1, 1, channels, dtype=np.float32)


UNIT_DIFFERENCE: List[Node] = [
    ("ReduceL2", ["a"], "norm_a"),
    ("Clip", ["norm_a", "epsilon", ""], "clipped_a"),
    ("Div", ["a", "clipped_a"], "unit_a"),
    ("ReduceL2", ["b"], "norm_b"),
    ("Clip", ["norm_b", "epsilon", ""], "clipped_b"),
    ("Div", ["b", "clipped_b"], "unit_b"),
    ("Sub", ["unit_a", "unit_b"], "difference"),
    ("Mul", ["difference", "difference"], "square"),
    ("ReduceSum", ["square", "axis"], "distance"),
    ("Mul", ["distance", "half"], "out"),
]
COSINE: List[Node] = [
    ("Mul", ["a", "b"], "product"),
    ("ReduceSum", ["product", "axis"], "dot"),
    ("ReduceL2", ["a"], "norm_a"),
    ("ReduceL2", ["b"], "norm_b"),
    ("Mul", ["norm_a", "norm_b"], "norms"),
    ("Div", ["dot", "norms"], "out"),
]
SPREAD: List[Node] = [
    ("Sub", ["a", "means"], "centerd"),  # a constant of three axes, one value per channel
    ("Sub", ["b", "centerd"], "difference"),
    ("Mul", ["difference", "half"], "mean"),
    ("Sub", ["difference", "mean"], "rest"),
    ("Mul", ["rest", "rest"], "square"),
    ("ReduceSum", ["square", "axis"], "out"),
]


def unit_difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    units = [x / np.maximum(np.sqrt((x * x).sum(1, keepdims=True)), 1e-6) for x in (a, b)]
    return 0.5 * ((units[0] - units[1]) ** 2).sum(1, keepdims=True)


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(1) / np.sqrt((a * a).sum(1) * (b * b).sum(1))


def spread(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (0.25 * (b - (a - means(a.shape[1])[:, None, None].astype(np.float64))) ** 2).sum(1)


@settings(max_examples=40, deadline=None)
@given(
    case=st.sampled_from([(UNIT_DIFFERENCE, 1, unit_difference), (COSINE, 0, cosine), (SPREAD, 0, spread)]),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 70), st.integers(1, 17), st.integers(1, 17)),
    seed=st.integers(0, 2**32 - 1),
)
def test_results_equal_float64_arithmetic_at_any_size(
    case: Tuple[List[Node], int, Callable[..., np.ndarray]], shape: Tuple[int, ...], seed: int
):
    nodes, keepdims, exact = case
    generator = np.random.default_rng(seed)
    features = {name: generator.normal(size=shape).astype(np.float32) for name in "ab"}
    model = graph(nodes, shape[1], shape[2:], keepdims)
    turned = run_passes(model, (score_channels_last,))
    assert not SUMS & {node.op_type for node in turned.graph.node}
    (before,), (after,) = run(model, features), run(turned, features)
    expected = exact(*(value.astype(np.float64) for value in features.values()))
    assert after.shape == before.shape == expected.shape
    np.testing.assert_allclose(after, expected, rtol=2e-5, atol=2e-6)
    np.testing.assert_allclose(after, before, rtol=2e-5, atol=2e-6)


def test_readers_outside_the_scoring_keep_their_layout():
    """A difference that other nodes read too, and a norm that both the scoring and other nodes read."""
    nodes = [
        ("Sub", ["a", "b"], "difference"),
        ("ReduceL2", ["difference"], "norm"),
        ("Div", ["difference", "norm"], "unit"),
        ("Mul", ["unit", "unit"], "square"),
        ("ReduceSum", ["square", "axis"], "ones"),
        ("Relu", ["difference"], "positive"),
        ("Mul", ["positive", "norm"], "scaled"),
        ("Add", ["scaled", "ones"], "sum"),
        ("ReduceMax", ["sum"], "out"),
    ]
    model = graph(nodes, 5, (7, 3), 1)
    turned = run_passes(model, (score_channels_last,))
    generator = np.random.default_rng(0)
    features = {name: generator.normal(size=(2, 5, 7, 3)).astype(np.float32) for name in "ab"}
    np.testing.assert_allclose(run(turned, features)[0], run(model, features)[0], rtol=1e-5, atol=1e-6)
    kinds = Counter(node.op_type for node in turned.graph.node)
    assert not SUMS & set(kinds)
    assert kinds["Transpose"] == 3  # of the difference, and of both sums back


@pytest.mark.parametrize("hindrance", ["unknown channels", "another axis"])
def test_sum_over_unknown_channels_or_another_axis_stays(hindrance: str):
    model = graph(COSINE, "C" if hindrance == "unknown channels" else 4, (5, 3), 0)
    if hindrance == "another axis":
        model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.asarray([2]), "axis"))
        for node in model.graph.node:
            for attribute in node.attribute:
                if attribute.name == "axes":
                    attribute.ints[0] = 2
    assert run_passes(model, (score_channels_last,)).graph.node == model.graph.node


class Scoring(nn.Module):
    """The scoring of a method alone, on features."""

    def __init__(self, method: AnomalyModel) -> None:
        super().__init__()
        self.method = method

    def forward(self, *features: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        return self.method.score(features)


METHODS: Dict[str, Callable[[], AnomalyModel]] = {
    "STFPM": lambda: STFPM(ModelConfig(image_size=(64, 96))),
    "STFPM, anomalib": lambda: STFPM(ModelConfig(image_size=(64, 96), fusion="anomalib")),
    "Reverse Distillation": lambda: ReverseDistillation(
        ModelConfig(image_size=(64, 96), options={"backbone": "resnet18"})
    ),
    "Uninformed Students": lambda: UninformedStudents(ModelConfig(image_size=(40, 48))),
    "Uninformed Students, leaky": lambda: UninformedStudents(
        ModelConfig(image_size=(40, 48), options={"decoder": "leaky"})
    ),
}


@pytest.mark.parametrize("name", list(METHODS))
def test_each_method_is_scored_channels_last(name: str):
    torch.manual_seed(0)
    method = METHODS[name]().eval()
    height, width = method.config.image_size
    with torch.inference_mode():
        shown = torch.randint(0, 256, (2, height, width, 3), dtype=torch.uint8)
        features = [torch.randn_like(feature) for feature in method.networks(method.normalize(shown))]
        expected = method.score(features)
        model = _exported(Scoring(method), features)
    turned = run_passes(model, (score_channels_last,))
    before, after = (Counter(node.op_type for node in m.graph.node) for m in (model, turned))
    assert before["ReduceSum"] + before["ReduceL2"] == after["MatMul"] - before["MatMul"] > 0
    assert not SUMS & set(after)
    result = run(turned, {f"feature{i}": feature.numpy() for i, feature in enumerate(features)})
    for value, other in zip(result, expected):
        np.testing.assert_allclose(value, other.numpy(), rtol=1e-4, atol=1e-5 * float(other.abs().max()))


def _exported(scoring: Scoring, features: List[torch.Tensor]) -> onnx.ModelProto:
    buffer = io.BytesIO()
    names = [f"feature{i}" for i in range(len(features))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            scoring, tuple(features), buffer, opset_version=17, dynamo=False, input_names=names,
            output_names=["anomaly_map", "anomaly_score"], dynamic_axes={name: {0: "N"} for name in names},
        )  # fmt: skip
    return run_passes(onnx.load_model_from_string(buffer.getvalue()), pipelines.EXPORT)
