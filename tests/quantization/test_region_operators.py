"""Quantization of leaky activations, concatenations, multi-pooling and transposed convolutions.

Two small networks consist of the operators of Reverse Distillation and of Uninformed Students.
"""

from __future__ import annotations

import collections
import io
import warnings
from pathlib import Path
from typing import Dict, Tuple

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper
from torch import nn
from torch.nn import functional

from adq_edge.calibration.activations import largest_per_channel, observe
from adq_edge.calibration.second_moments import patches, second_moments
from adq_edge.core.options import Precision, Target
from adq_edge.metrics.snr import snr_db
from adq_edge.quantization.arithmetic import quantize_weight
from adq_edge.quantization.dynamic_ranges import dynamic_ranges, float32_nodes
from adq_edge.quantization.equalization import channel_groups, equalization_scales, equalize
from adq_edge.quantization.float_model import FloatModel
from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.graph.index import GraphIndex
from adq_edge.quantization.graph.tensorrt_lint import lint
from adq_edge.quantization.passes import pipelines
from adq_edge.quantization.passes.conv_transpose import replace_conv_transpose
from adq_edge.quantization.passes.depth_to_space import transpose_depth_to_space
from adq_edge.quantization.passes.float_weights import keep_float_weights
from adq_edge.quantization.passes.frame import PassContext, run_passes
from adq_edge.quantization.passes.grid_weights import put_weights_on_grid
from adq_edge.quantization.passes.leaky_relu import split_leaky_relus
from adq_edge.quantization.passes.strong_typing import type_as_float16
from adq_edge.quantization.qdq import quantize
from adq_edge.quantization.range_propagation import before_leaky
from adq_edge.quantization.region import output_axis
from adq_edge.quantization.rounding import round_with_compensation
from factories.activations import Ranges, measured_ranges

SIZE = 32


class Scored(nn.Module):
    """A scoring: the squared difference of two feature maps, and its largest value."""

    def score(self, a: torch.Tensor, b: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        anomaly_map = torch.sum((a - b) ** 2, 1)
        return anomaly_map, torch.amax(anomaly_map, dim=(1, 2))


class Reversed(Scored):
    """Two scales concatenated into a bottleneck, and a transposed convolution back."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
        self.first = nn.Conv2d(16, 16, 3, padding=1)
        self.second = nn.Conv2d(16, 24, 3, 2, 1)
        self.down = nn.Conv2d(16, 8, 3, 2, 1)
        self.bottleneck = nn.Conv2d(32, 32, 1)
        self.up = nn.Sequential(nn.ConvTranspose2d(32, 16, 2, 2, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.after = nn.Conv2d(16, 16, 3, padding=1)
        self.skip = nn.Sequential(nn.ConvTranspose2d(32, 16, 2, 2, bias=False), nn.BatchNorm2d(16))
        for norm in (self.up[1], self.skip[1]):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
            nn.init.uniform_(norm.weight, 0.5, 2)
            nn.init.normal_(norm.bias)

    def forward(self, images: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        x = self.stem((images.float().permute(0, 3, 1, 2) - 120.0) / 60.0)
        first = torch.relu(self.first(x))
        joined = torch.cat([torch.relu(self.down(first)), torch.relu(self.second(first))], 1)
        embedding = torch.relu(self.bottleneck(joined))
        return self.score(first, torch.relu(self.after(self.up(embedding)) + self.skip(embedding)))


class Patches(Scored):
    """Two patch networks at every pixel: all four offsets of a pooling form a batch."""

    def __init__(self) -> None:
        super().__init__()
        self.networks = nn.ModuleList(
            nn.ModuleList(
                [nn.Conv2d(3, 16, 5, padding=2), nn.Conv2d(16, 24, 3, padding=1), nn.Conv2d(24, 8, 1)]
            )
            for _ in range(2)
        )

    def forward(self, images: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        x = functional.pad((images.float().permute(0, 3, 1, 2) - 120.0) / 60.0, (0, 1, 0, 1))
        features = []
        for first, second, third in self.networks:
            value = functional.leaky_relu(first(x), 0.005)
            shifted = [value[:, :, dy : SIZE + dy, dx : SIZE + dx] for dy in (0, 1) for dx in (0, 1)]
            batch = torch.cat([functional.max_pool2d(part, 2) for part in shifted], 0)
            features.append(third(functional.leaky_relu(second(batch), 0.005)))
        return self.score(*features)


KINDS = {"reversed": Reversed, "patches": Patches}


def export(network: nn.Module) -> onnx.ModelProto:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        names = ["image", "anomaly_map", "anomaly_score"]
        torch.onnx.export(
            network.eval(), (torch.zeros(1, SIZE, SIZE, 3, dtype=torch.uint8),), buffer, opset_version=17,
            dynamo=False, input_names=names[:1], output_names=names[1:],
            dynamic_axes={name: {0: "N"} for name in names},
        )  # fmt: skip
    return run_passes(onnx.load_model_from_string(buffer.getvalue()), pipelines.EXPORT)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (4, SIZE, SIZE, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def networks() -> Dict[str, nn.Module]:
    torch.manual_seed(0)
    return {kind: make() for kind, make in KINDS.items()}


@pytest.fixture(scope="module")
def models(networks: Dict[str, nn.Module]) -> Dict[str, onnx.ModelProto]:
    return {kind: export(network) for kind, network in networks.items()}


@pytest.fixture(scope="module")
def ranges(models: Dict[str, onnx.ModelProto], images: np.ndarray) -> Dict[str, Ranges]:
    return {kind: measured_ranges(model, images) for kind, model in models.items()}


def open_session(model: onnx.ModelProto, integer: bool, path: str = "") -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    options.optimized_model_filepath = path
    if not integer:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def run(model: onnx.ModelProto, images: np.ndarray, *, integer: bool = False, names=("anomaly_map",)):
    return open_session(model, integer).run(list(names), {"image": images})


def for_cpu(model: onnx.ModelProto, ranges: Ranges) -> onnx.ModelProto:
    return run_passes(model, pipelines.ONNXRUNTIME[Precision.INT8], PassContext(Target.X86, ranges))


# --- the float passes keep the function ------------------------------------------------------------


@pytest.mark.parametrize("kind", list(KINDS))
def test_float_passes_keep_the_function(models, networks, images: np.ndarray, kind: str):
    with torch.inference_mode():
        expected = networks[kind](torch.from_numpy(images))[0].numpy()
    model = models[kind]
    assert not {"BatchNormalization"} & {node.op_type for node in model.graph.node}
    assert snr_db(expected, run(model, images)[0]) > 100
    rewritten = run_passes(model, (replace_conv_transpose,))
    assert not {"ConvTranspose"} & {node.op_type for node in rewritten.graph.node}
    assert snr_db(expected, run(rewritten, images)[0]) > 100
    laid_out = run_passes(rewritten, (transpose_depth_to_space,))
    assert not {"DepthToSpace"} & {node.op_type for node in laid_out.graph.node}
    assert snr_db(expected, run(laid_out, images)[0]) > 100
    region = FloatModel.of(model).region
    groups = channel_groups(region, GraphIndex(model.graph))
    assert len(groups) == {"reversed": 7, "patches": 4}[kind]
    measured = [name for name in region.measured if any(name in members for members in groups)]
    largest = largest_per_channel(model, measured, images, threads=1)
    for scales in (
        equalization_scales(groups, largest),
        {g[0]: tuple(np.geomspace(0.01, 1, len(largest[n]))) for g in groups for n in g if n in largest},
    ):
        assert len(scales) == len(groups)
        equalized = equalize(FloatModel.of(model), scales).proto
        assert snr_db(expected, run(equalized, images)[0]) > 90


# --- integers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("target", list(Target))
def test_int8_is_close_to_float(models, ranges, images: np.ndarray, kind: str, target: Target):
    quantized = quantize(FloatModel.of(models[kind]), ranges[kind], target)
    assert snr_db(run(models[kind], images)[0], run(quantized, images)[0]) > 27


@pytest.mark.parametrize(
    ("kind", "kernels"),
    [
        ("reversed", {"QLinearConv": 7, "QLinearConcat": 1, "QLinearAdd": 1, "DepthToSpace": 0, "Conv": 1}),
        (
            "patches",
            {"QLinearConv": 10, "QLinearConcat": 2, "QLinearAdd": 4, "NhwcMaxPool": 8, "Conv": 0},
        ),
    ],
)
def test_onnxruntime_computes_the_networks_in_integers(
    models, ranges, images: np.ndarray, tmp_path: Path, kind: str, kernels: Dict[str, int]
):
    quantized = for_cpu(models[kind], ranges[kind])
    optimized = tmp_path / "optimized.onnx"
    open_session(quantized, True, str(optimized))
    graph = onnx.load(str(optimized)).graph
    found = collections.Counter(node.op_type for node in graph.node)
    assert {kernel: found[kernel] for kernel in kernels} == kernels
    assert found["ConvTranspose"] == found["LeakyRelu"] == 0
    index = GraphIndex(graph)
    for node in graph.node:  # movements move bytes
        if node.op_type in ("Reshape", "Slice") and node.input[0] in index.producers:
            makers = {index.producers[node.input[0]].op_type}
            assert makers <= {"QLinearConv", "QuantizeLinear", "Transpose", "QLinearAdd", "Slice"}
    expected = run(models[kind], images)[0]
    assert snr_db(expected, run(quantized, images, integer=True)[0]) > 27


@pytest.mark.parametrize("target", [Target.X86, Target.ARM])
def test_split_leaky_relu_is_rounded_once(models, ranges, images, target: Target):
    model = models["patches"]
    # the negative side is the longer one before the slope: rounded there, it would take all levels
    skewed = {name: (min(low, -0.02 * high), high) for name, (low, high) in ranges["patches"].items()}
    whole = run_passes(quantize(FloatModel.of(model), skewed, target), (keep_float_weights,))
    split = run_passes(whole, (split_leaky_relus,))
    assert "LeakyRelu" not in {node.op_type for node in split.graph.node}
    assert snr_db(run(whole, images)[0], run(split, images)[0]) > 55
    assert snr_db(run(whole, images)[0], run(split, images, integer=True)[0]) > 40
    weights = [[len(t.raw_data) for t in m.graph.initializer if len(t.dims) == 4] for m in (whole, split)]
    assert sorted(weights[0]) == sorted(weights[1])  # both sides share them
    nothing_below = {name: (0.0, high) for name, (_, high) in ranges["patches"].items()}
    rounded = quantize(FloatModel.of(model), nothing_below, target)
    rectified = run_passes(rounded, (split_leaky_relus,))
    operators = collections.Counter(node.op_type for node in rectified.graph.node)
    assert operators["Relu"] == 4
    assert operators["Conv"] == 6


@settings(max_examples=200, deadline=None)
@given(st.floats(-1e3, 0), st.floats(1e-3, 1e3), st.sampled_from([0.005, 0.01, 0.2, 1.0]))
def test_range_before_a_leaky_relu_loses_at_most_one_level(low: float, high: float, slope: float):
    before = before_leaky(slope * low, high, slope)
    assert before[1] == high
    level = (high - slope * low) / 255
    clipped = np.maximum(np.linspace(low, 0, 9), before[0])
    assert np.abs(slope * np.linspace(low, 0, 9) - slope * clipped).max() <= 1.01 * level
    assert before[0] >= low * 1.0001 - 1e-9 or before[0] == slope * low


def test_transposed_weights_are_rounded_like_those_of_the_equivalent_convolution(models, images: np.ndarray):
    model = models["reversed"]
    index, names = GraphIndex(model.graph), []
    for node, moments in second_moments(
        model, FloatModel.of(model).region.operators, list(images), threads=1
    ):
        weight = index.constant(node.input[1])
        rounded = round_with_compensation(weight, moments, output_axis(node))
        assert rounded.levels.shape == weight.shape
        if node.op_type != "ConvTranspose":
            continue
        names.append(node.name)
        np.testing.assert_allclose(rounded.scales, np.abs(weight).max((0, 2, 3)) / 127, rtol=1e-6)
        nearest = quantize_weight(weight, rounded.scales, 1)
        (values,) = run(observe(model, [node.input[0]]), images, names=[node.input[0]])

        errors = [
            np.sum(np.einsum("nchw,cokl->nohwkl", values, step * levels - weight) ** 2)
            for step in [rounded.scales[:, None, None].astype(np.float64)]
            for levels in (rounded.levels, nearest)
        ]
        assert errors[0] < 0.9 * errors[1]
        # the 1x1 convolution computes with the same integers
        context = PassContext(rounding={node.name: rounded})
        replace_conv_transpose(GraphEditor(model), context)
        same = context.rounding[node.name]
        restored = same.levels[:, :, 0, 0].astype(np.float64) * same.scales[:, None]
        direct = rounded.levels * rounded.scales[:, None, None].astype(np.float64)
        np.testing.assert_array_equal(restored, direct.transpose(2, 3, 1, 0).reshape(restored.shape))
        editor = GraphEditor(model)
        put_weights_on_grid(editor, PassContext(rounding={node.name: rounded}))
        on_grid = editor.value(node.input[1])
        assert np.abs(on_grid - weight).max() <= 1.5 * rounded.scales.max()
        np.testing.assert_allclose(np.abs(on_grid).max((0, 2, 3)), 127 * rounded.scales, rtol=1e-6)
    assert len(names) == 2


def test_patches_of_a_transposed_convolution_are_pixels():
    value = np.random.default_rng(0).normal(size=(1, 5, 6, 7)).astype(np.float32)
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], kernel_shape=[2, 2], strides=[2, 2])
    np.testing.assert_array_equal(patches(value, node, (2, 2)), value[0].reshape(5, -1).T)


# --- TensorRT --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(KINDS))
def test_tensorrt_has_pairs_at_readers_only(models, ranges, kind: str):
    quantized = quantize(FloatModel.of(models[kind]), ranges[kind], Target.TENSORRT)
    assert lint(quantized) == []
    index = GraphIndex(quantized.graph)
    for node in quantized.graph.node:
        if node.op_type == "QuantizeLinear" and node.input[0] in index.producers:
            readers = index.consumers[index.consumers[node.output[0]][0].output[0]]
            assert {reader.op_type for reader in readers} <= {"Conv", "ConvTranspose", "Add"}
            assert index.producers[node.input[0]].op_type != "Conv" or readers[0].op_type == "Add"
    amax = dynamic_ranges(FloatModel.of(models[kind]), ranges[kind])
    networks = FloatModel.of(models[kind]).region.outputs
    assert networks <= set(amax)
    for node in models[kind].graph.node:
        if node.op_type in ("Concat", "Slice", "MaxPool") and node.output[0] in networks:
            assert len({amax[name] for name in (*node.output, *(n for n in node.input if n in amax))}) == 1
    pinned = set(float32_nodes(FloatModel.of(models[kind])))
    assert {"Conv", "ConvTranspose", "Concat", "LeakyRelu"}.isdisjoint(
        node.op_type for node in models[kind].graph.node if node.name in pinned
    )


@pytest.mark.parametrize("kind", list(KINDS))
def test_tensorrt_rtx_compiles_int8_and_float16(models, ranges, kind: str):
    from factories.rtx import compile_engine

    integers = quantize(FloatModel.of(models[kind]), ranges[kind], Target.TENSORRT)
    halves = run_passes(models[kind], (type_as_float16,))
    made = FloatModel.of(models[kind]).region.outputs
    types = {
        item.name: item.type.tensor_type.elem_type
        for item in onnx.shape_inference.infer_shapes(halves).graph.value_info
    }
    for node in halves.graph.node:  # a feature for the scoring is cast back under its own name
        if node.output[0] in made and node.op_type != "Cast":
            assert types[node.output[0]] == onnx.TensorProto.FLOAT16
    for model in (integers, run_passes(integers, (type_as_float16,)), halves):
        assert compile_engine(model.SerializeToString(), "SM86", SIZE)
