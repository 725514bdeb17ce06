"""The graph passes for TensorRT-RTX: fewer kernels, the same integers, nearly the same map."""

from __future__ import annotations

from typing import Dict, List, Tuple

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from adq_edge.core.options import Target
from adq_edge.metrics.snr import snr_db
from adq_edge.quantization.float_model import FloatModel
from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.graph.index import GraphIndex, attribute
from adq_edge.quantization.passes.common_weight_scale import share_weight_scales
from adq_edge.quantization.passes.frame import PassContext, run_passes
from adq_edge.quantization.passes.joint_rounding import round_jointly
from adq_edge.quantization.passes.sibling_convolutions import widen_siblings
from adq_edge.quantization.passes.strong_typing import type_as_float16
from adq_edge.quantization.passes.twin_convolutions import merge_twin_convolutions
from adq_edge.quantization.qdq import quantize
from factories.activations import Ranges, measured_ranges
from factories.images import SIZE

IMAGES = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), np.uint8)


@pytest.fixture(scope="module")
def model(narrow_bundle) -> onnx.ModelProto:
    return FloatModel.load(narrow_bundle).proto


@pytest.fixture(scope="module")
def ranges(model: onnx.ModelProto) -> Ranges:
    return measured_ranges(model, IMAGES)


@pytest.fixture(scope="module")
def quantized(model: onnx.ModelProto, ranges: Ranges) -> onnx.ModelProto:
    return quantize(FloatModel.of(model), ranges, Target.TENSORRT)


def run(model: onnx.ModelProto, feed: np.ndarray, output: str = "anomaly_map") -> np.ndarray:
    """Run a graph with its pairs executed one by one."""
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run([output], {model.graph.input[0].name: feed})[0]


def of_type(model: onnx.ModelProto, *kinds: str) -> List[onnx.NodeProto]:
    return [node for node in model.graph.node if node.op_type in kinds]


def weights(model: onnx.ModelProto) -> Dict[str, Tuple[np.ndarray, np.ndarray]]:
    """Return the integers and the scales of each convolution between pairs."""
    index = GraphIndex(model.graph)
    found = {}
    for node in index.of_type("Conv"):
        made = index.producers.get(node.input[1])
        if made is not None:
            values, scales = (index.value(name) for name in index.producers[made.input[0]].input[:2])
            found[node.name] = (np.rint(values / scales.reshape(-1, 1, 1, 1)).astype(int), scales)
    return found


def test_shared_weight_scale_keeps_the_integers(quantized: onnx.ModelProto, ranges: Ranges):
    shared = run_passes(quantized, (share_weight_scales,), PassContext(ranges=ranges))
    before, after = weights(quantized), weights(shared)
    assert before.keys() == after.keys()
    for name, (levels, scales) in after.items():
        assert scales.ndim == 0
        np.testing.assert_array_equal(levels, before[name][0])
    assert snr_db(run(quantized, IMAGES), run(shared, IMAGES)) > 40


def single_convolution(weight: np.ndarray, bias: np.ndarray) -> onnx.ModelProto:
    """Return a graph of one convolution of pairs, with a scale for each output channel."""
    scales = np.maximum(np.abs(weight).max(axis=(1, 2, 3)) / 127, 1e-7).astype(np.float32)
    constants = {
        **{"w": weight, "b": bias, "sw": scales, "zw": np.zeros(len(scales), np.int8)},
        **{"sx": np.float32(0.02), "zx": np.int8(0)},
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "sx", "zx"], ["xq"], "xq"),
        helper.make_node("DequantizeLinear", ["xq", "sx", "zx"], ["xd"], "xd"),
        helper.make_node("QuantizeLinear", ["w", "sw", "zw"], ["wq"], "wq", axis=0),
        helper.make_node("DequantizeLinear", ["wq", "sw", "zw"], ["wd"], "wd", axis=0),
        helper.make_node("Conv", ["xd", "wd", "b"], ["c"], "conv", kernel_shape=[1, 1]),
        helper.make_node("Relu", ["c"], ["y"], "relu"),
    ]
    graph = helper.make_graph(
        nodes,
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, len(weight), 4, 4])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_channels_of_tiny_weights_stay_within_float16():
    """A dead channel with a bias must not become infinite behind its large factor."""
    weight = np.asarray([[0.5, -0.25], [1e-6, 1e-6], [0.125, 0.5]], np.float32)[:, :, None, None]
    bias = np.asarray([0.1, 90.0, -0.2], np.float32)
    graph = single_convolution(weight, bias)
    shared = run_passes(graph, (share_weight_scales,))
    feed = np.random.default_rng(1).normal(size=(1, 2, 4, 4)).astype(np.float32)
    np.testing.assert_allclose(run(shared, feed, "y"), run(graph, feed, "y"), rtol=1e-3, atol=1e-3)
    editor = GraphEditor(shared)
    editor.observe("y.unscaled")
    assert np.abs(run(editor.model(), feed, "y.unscaled")).max() < 2**15
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in shared.graph.initializer}
    assert np.abs(stored["b"]).max() <= 2**14 * 1.01


def test_parallel_networks_are_rounded_together(quantized: onnx.ModelProto):
    joint = run_passes(quantized, (round_jointly,))
    index = GraphIndex(quantized.graph)
    rounded = {node.input[0] for node in index.of_type("QuantizeLinear")} - set(index.initializers)
    splits = of_type(joint, "Split")
    assert len(splits) == len(rounded) // 2
    assert all(len(node.output) == 2 for node in splits)
    assert snr_db(run(quantized, IMAGES), run(joint, IMAGES)) > 40


def test_graph_of_one_network_is_unchanged():
    graph = single_convolution(np.ones((2, 2, 1, 1), np.float32), np.zeros(2, np.float32))
    assert run_passes(graph, (round_jointly, merge_twin_convolutions, widen_siblings)) == run_passes(
        graph, ()
    )


def test_twin_convolutions_are_merged(model: onnx.ModelProto, quantized: onnx.ModelProto):
    for graph in (model, quantized):
        merged = run_passes(graph, (merge_twin_convolutions,))
        assert len(of_type(merged, "Conv")) == len(of_type(graph, "Conv")) - 1  # those of the image
        assert len(of_type(merged, "MaxPool")) == 1
        assert snr_db(run(graph, IMAGES), run(merged, IMAGES)) > 40


def test_skip_branches_are_widened_where_that_is_cheap(quantized: onnx.ModelProto, monkeypatch):
    def kernels(graph: onnx.ModelProto) -> List[int]:
        return [attribute(node, "kernel_shape")[0] for node in of_type(graph, "Conv")]

    widened = run_passes(quantized, (widen_siblings,))
    assert kernels(quantized).count(1) == 4
    assert kernels(widened).count(1) == 0
    assert snr_db(run(quantized, IMAGES), run(widened, IMAGES)) > 40
    merged = run_passes(widened, (merge_twin_convolutions,))
    assert len(of_type(merged, "Conv")) == len(of_type(quantized, "Conv")) - 5
    assert snr_db(run(quantized, IMAGES), run(merged, IMAGES)) > 40
    monkeypatch.setattr("adq_edge.quantization.passes.sibling_convolutions._MOST_ADDED", 1e5)
    assert kernels(run_passes(quantized, (widen_siblings,))).count(1) == 4


def test_all_passes_together_change_the_map_little(quantized: onnx.ModelProto, ranges: Ranges, model):
    passes = (widen_siblings, merge_twin_convolutions, share_weight_scales, round_jointly)
    final = run_passes(quantized, passes, PassContext(ranges=ranges))
    expected = run(model, IMAGES)
    loss = snr_db(expected, run(quantized, IMAGES)) - snr_db(expected, run(final, IMAGES))
    assert abs(loss) < 0.5
    typed = run_passes(
        quantized,
        (widen_siblings, merge_twin_convolutions, type_as_float16, share_weight_scales, round_jointly),
        PassContext(ranges=ranges),
    )
    halves = [numpy_helper.to_array(t) for t in typed.graph.initializer if t.data_type == TensorProto.FLOAT16]
    assert halves
    assert all(np.isfinite(value).all() for value in halves)
