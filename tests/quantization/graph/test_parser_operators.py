"""Operators and attributes of engine graphs against what TensorRT's open ONNX parser imports in each release.

tests/data/onnx_tensorrt_operators.txt lists them, with the commits that it was made from.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, FrozenSet, NamedTuple, Optional

import numpy as np
import onnx
import pytest
import torch

from adq_edge.core.options import Route, Target
from adq_edge.models.base import AnomalyModel
from adq_edge.models.config import ModelConfig
from adq_edge.models.paste import PaSTe
from adq_edge.models.reverse_distillation import ReverseDistillation
from adq_edge.models.stfpm import STFPM
from adq_edge.models.uninformed_students import UninformedStudents
from adq_edge.onnx_export.export import to_onnx
from adq_edge.quantization.float_model import FloatModel
from adq_edge.quantization.graph.tensorrt_lint import lint
from adq_edge.quantization.passes import pipelines
from adq_edge.quantization.passes.frame import PassContext, run_passes
from factories.activations import measured_ranges
from factories.foreign_networks import KINDS, foreign_graph
from factories.paths import DATA

RELEASES = ("8.5.2", "8.6.1", "10.1", "10.16")
IGNORED = {
    "BatchNormalization": {"momentum"},  # of training
    "ReduceSum": {"noop_with_empty_axes"},  # all have axes
    "TopK": {"sorted"},  # TensorRT always sorts
}
"""Attributes that change nothing in our graphs."""


class Operator(NamedTuple):
    """The releases that import an operator, and the attributes that 8.5.2 reads; None if not reviewed."""

    releases: FrozenSet[str]
    attributes: Optional[FrozenSet[str]]


def read_table() -> Dict[str, Operator]:
    table = {}
    for line in (DATA / "onnx_tensorrt_operators.txt").read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            name, marks, *attributes = line.split()
            releases = frozenset(release for release, mark in zip(RELEASES, marks) if mark == "Y")
            known = frozenset(attributes) - {"-"} if attributes else None
            table[name] = Operator(releases, known)
    return table


TABLE = read_table()


def students(**options: Any) -> AnomalyModel:
    return UninformedStudents(ModelConfig(image_size=(40, 48), options={"students": 2, **options}))


METHODS: Dict[str, Callable[[], AnomalyModel]] = {
    "STFPM": lambda: STFPM(ModelConfig(image_size=(32, 64))),
    "STFPM, anomalib": lambda: STFPM(ModelConfig(image_size=(32, 64), fusion="anomalib")),
    "PaSTe": lambda: PaSTe(ModelConfig(image_size=(32, 64))),
    "Reverse Distillation": lambda: ReverseDistillation(
        ModelConfig(image_size=(64, 32), options={"backbone": "resnet18"})
    ),
    "Uninformed Students": lambda: students(stride=2),
    "Uninformed Students, leaky": lambda: students(stride=4, decoder="leaky", border="zeros"),
}


def unread(graph: onnx.ModelProto, releases: FrozenSet[str], is_strict: bool) -> FrozenSet[str]:
    """Return what the parsers of the releases do not import of a graph: operators, and attributes."""
    found = set()
    for node in graph.graph.node:
        operator = TABLE.get(node.op_type, Operator(frozenset(), None))
        found |= {f"{node.op_type} in {release}" for release in releases - operator.releases}
        if operator.attributes is None:
            found |= {f"{node.op_type} not reviewed"} if is_strict else set()
        else:
            given = {item.name for item in node.attribute} - operator.attributes
            found |= {f"{node.op_type}.{name}" for name in given - IGNORED.get(node.op_type, set())}
    return frozenset(found)


def check(graph: onnx.ModelProto, is_strict: bool) -> None:
    height, width = (size.dim_value for size in graph.graph.input[0].type.tensor_type.shape.dim[1:3])
    images = np.random.default_rng(0).integers(0, 256, (1, height, width, 3), np.uint8)
    model = FloatModel.of(graph)
    context = PassContext(Target.TENSORRT, measured_ranges(graph, images), region=model.region)
    for route, precisions in pipelines.TENSORRT.items():
        releases = frozenset(RELEASES[2:] if route is Route.TYPED else RELEASES)
        for passes in precisions.values():
            made = run_passes(graph, passes, context)
            assert unread(made, releases, is_strict) == frozenset(), route
            if route is not Route.TYPED:
                assert lint(made) == []


@pytest.mark.parametrize("name", METHODS)
def test_each_release_imports_the_graphs_of_each_method(name: str):
    torch.manual_seed(0)
    model = METHODS[name]().eval()
    check(to_onnx(model, model.config.image_size), is_strict=True)


@pytest.mark.parametrize("kind", KINDS)
def test_each_release_imports_the_graphs_of_other_tools(kind: str):
    check(foreign_graph(kind), is_strict=False)


def test_lint_refuses_the_operators_that_8_5_does_not_import():
    old = {name for name, operator in TABLE.items() if "8.5.2" in operator.releases}
    plugins = {"InstanceNormalization", "RoiAlign"}
    since: Dict[str, int] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        if not schema.domain:
            since[schema.name] = min(schema.since_version, since.get(schema.name, 99))
    for name in sorted(since):
        node = onnx.helper.make_node(name, ["x", "x"], ["y"], name)
        graph = onnx.helper.make_graph([node], "g", [], [])
        made = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
        refused = any("no importer" in fault or "plugin" in fault for fault in lint(made))
        if since[name] <= 17:
            assert refused is (name not in old or name in plugins), name
