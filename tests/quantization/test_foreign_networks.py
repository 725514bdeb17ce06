"""INT8, float16 and TensorRT graphs of networks of other tools."""

from __future__ import annotations

from typing import Callable, List, Tuple

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from adq_edge.calibration.activations import largest_per_channel
from adq_edge.core.options import Precision, Route, Target
from adq_edge.metrics.snr import snr_db
from adq_edge.quantization.dynamic_ranges import dynamic_ranges
from adq_edge.quantization.equalization import channel_groups, equalization_scales, equalize
from adq_edge.quantization.float_model import FloatModel
from adq_edge.quantization.graph.tensorrt_lint import lint
from adq_edge.quantization.passes import pipelines
from adq_edge.quantization.passes.frame import PassContext, run_passes
from adq_edge.quantization.passes.layer_normalization import split_layer_normalizations
from adq_edge.quantization.qdq import quantize
from factories.activations import Ranges, measured_ranges
from factories.foreign_networks import KINDS, SIZE, foreign_graph
from factories.random_graphs import OPERATORS, random_graph


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    coarse = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3)).astype(np.uint8)
    return np.repeat(np.repeat(coarse, SIZE // 8, 1), SIZE // 8, 2)


def run(model: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    """Return the anomaly maps, one image at a time."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return np.concatenate([session.run(["anomaly_map"], {"image": image[None]})[0] for image in images])


def calibrated(model: onnx.ModelProto, images: np.ndarray) -> Tuple[FloatModel, Ranges]:
    """Return the equalized model and its ranges."""
    plain = FloatModel.of(model)
    groups = channel_groups(plain.region, plain.index)
    grouped = {name for members in groups for name in members}
    names = [name for name in plain.region.measured if name in grouped]
    scales = equalization_scales(groups, largest_per_channel(model, names, images, threads=1))
    equalized = equalize(plain, scales)
    return equalized, measured_ranges(equalized.proto, images)


def int8_graph(model: FloatModel, ranges: Ranges, target: Target = Target.X86) -> onnx.ModelProto:
    context = PassContext(target, ranges, region=model.region)
    return run_passes(model.proto, pipelines.ONNXRUNTIME[Precision.INT8], context)


@pytest.mark.parametrize(
    "kind", ["TwoUNets", "Mobile", "Mobile2", "Efficient", "Transformer", "Next", "PreActivated"]
)
def test_int8_maps_are_close_to_float32_maps(kind: str, images: np.ndarray):
    model, ranges = calibrated(foreign_graph(kind), images)
    expected = run(foreign_graph(kind), images)
    assert snr_db(expected, run(model.proto, images)) > 80.0
    assert snr_db(expected, run(int8_graph(model, ranges), images)) > 36.0
    assert snr_db(expected, run(quantize(model, ranges, Target.TENSORRT), images)) > 36.0


@pytest.mark.parametrize("kind", KINDS)
def test_tensorrt_reads_the_graphs_of_every_kind(kind: str, images: np.ndarray):
    model, ranges = calibrated(foreign_graph(kind), images[:1])
    context = PassContext(Target.TENSORRT, ranges, region=model.region)
    for route in (Route.IMPLICIT, Route.EXPLICIT):
        assert lint(run_passes(model.proto, pipelines.TENSORRT[route][Precision.INT8], context)) == []
    run_passes(model.proto, pipelines.TENSORRT[Route.TYPED][Precision.INT8], context)
    run_passes(model.proto, pipelines.TENSORRT[Route.TYPED][Precision.FP16], context)
    assert all(amax > 0 for amax in dynamic_ranges(model, ranges).values())


def test_float16_engines_keep_the_constants_of_the_scoring_in_float32():
    graph = run_passes(foreign_graph("PrincipalComponents"), pipelines.CPU[Precision.FP16])
    stored = {tensor.name: tensor.data_type for tensor in graph.graph.initializer}
    products = [node for node in graph.graph.node if node.op_type == "MatMul"]
    assert {stored[node.input[1]] for node in products} == {TensorProto.FLOAT}
    assert stored["/backbone/first/first.0/Conv.weight.float16"] == TensorProto.FLOAT16


def test_transposed_convolutions_without_an_integer_kernel_stay_float_in_onnxruntime(images: np.ndarray):
    model, ranges = calibrated(foreign_graph("Adversarial"), images)
    graph = int8_graph(model, ranges)
    constants = {tensor.name for tensor in graph.graph.initializer}
    transposed = [node for node in graph.graph.node if node.op_type == "ConvTranspose"]
    assert len(transposed) == 3
    assert all(node.input[1] in constants for node in transposed)


@pytest.mark.parametrize("kind", ["Mobile", "Efficient"])
def test_openvino_rounds_a_convolution_once_after_its_activation(kind: str, images: np.ndarray):
    model, ranges = calibrated(foreign_graph(kind), images)
    context = PassContext(Target.X86, ranges, region=model.region)
    graph = run_passes(model.proto, pipelines.OPENVINO[Precision.INT8], context)
    producers = {name: node for node in graph.graph.node for name in node.output}
    functions = [node for node in graph.graph.node if node.op_type in ("HardSwish", "Sigmoid")]
    assert len(functions) > 9
    assert {producers[node.input[0]].op_type for node in functions} == {"Conv"}
    assert snr_db(run(foreign_graph(kind), images), run(graph, images)) > 36.0


def test_a_product_is_rounded_behind_a_relu_and_float_behind_a_leaky_relu(images: np.ndarray):
    model, ranges = calibrated(foreign_graph("Discriminator"), images)
    graph = int8_graph(model, ranges)
    head = next(node for node in graph.graph.node if node.name == "/classify/classify.4/Gemm")
    producers = {name: node.op_type for node in graph.graph.node for name in node.output}
    assert producers[head.input[0]] == "DequantizeLinear"
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    assert np.isfinite(session.run(["anomaly_score"], {"image": images[:1]})[0]).all()


def test_integer_averages_are_convolutions_of_single_channels(images: np.ndarray):
    model, ranges = calibrated(foreign_graph("TeacherStudent"), images)
    graph = int8_graph(model, ranges)
    averages = [node for node in graph.graph.node if node.op_type == "AveragePool"]
    assert len(averages) == 2  # the padded ones of teacher and student
    assert snr_db(run(foreign_graph("TeacherStudent"), images), run(graph, images)) > 36.0


def test_a_layer_normalization_equals_its_formula(images: np.ndarray):
    model = foreign_graph("Next")
    formula = run_passes(model, (split_layer_normalizations,))
    assert "LayerNormalization" not in {node.op_type for node in formula.graph.node}
    assert snr_db(run(model, images), run(formula, images)) > 100.0


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 99),
    st.lists(st.tuples(st.sampled_from(OPERATORS), st.integers(0, 999)), min_size=3, max_size=14),
)
def test_random_networks_build_for_every_target_and_keep_their_function(seed, steps):
    graph = random_graph(seed, steps)
    pixels = np.random.default_rng(seed).integers(0, 256, (2, 8, 8, 3)).astype(np.uint8)
    expected = run(graph, pixels)
    model, ranges = calibrated(graph, pixels)
    np.testing.assert_allclose(
        run(model.proto, pixels), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max()
    )
    graphs: List[Callable[[], onnx.ModelProto]] = [
        lambda: int8_graph(model, ranges),
        lambda: int8_graph(model, ranges, Target.ARM),
        lambda: run_passes(graph, pipelines.ONNXRUNTIME[Precision.FP32]),
        lambda: quantize(model, ranges, Target.TENSORRT),
    ]
    for make in graphs:
        assert np.isfinite(run(make(), pixels)).all()
    context = PassContext(Target.X86, ranges, region=model.region)
    run_passes(model.proto, pipelines.OPENVINO[Precision.INT8], context)
    for route, precisions in pipelines.TENSORRT.items():
        for passes in precisions.values():
            made = run_passes(model.proto, passes, PassContext(Target.TENSORRT, ranges, region=model.region))
            if route is not Route.TYPED:
                assert lint(made) == []
    dynamic_ranges(model, ranges)
