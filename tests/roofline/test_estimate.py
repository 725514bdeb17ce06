from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
from pathlib import Path
from typing import List, Optional, Sequence

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from adq_edge.core.errors import BundleError
from adq_edge.core.files import sha256
from adq_edge.core.options import COMMON_PRECISIONS, Precision
from adq_edge.hardware.boards import BOARDS, Board, BoardMode, find_board
from adq_edge.report.tables.estimate import group_modes
from adq_edge.roofline.efficiency import BAND, FITTED
from adq_edge.roofline.estimate import estimate
from adq_edge.roofline.roofline import estimate_time, layer_times
from adq_edge.roofline.workload import Layer, Workload, find_workload
from factories.command_line import run_cli

XAVIER_NX = find_board("xavier-nx")
FASTEST = XAVIER_NX.modes[8]


def graph(nodes: List[onnx.NodeProto], outputs: Sequence[str], size: Optional[int] = 16, **weights):
    """Return a model that reads uint8 `[N, size, size, 3]` images; `weights` are shapes of constants."""
    shape = ["N", "H" if size is None else size, "W" if size is None else size, 3]
    return helper.make_model(
        helper.make_graph(
            [
                helper.make_node("Cast", ["image"], ["float"], "cast", to=TensorProto.FLOAT),
                helper.make_node("Transpose", ["float"], ["x"], "transpose", perm=[0, 3, 1, 2]),
                *nodes,
            ],
            "test",
            [helper.make_tensor_value_info("image", TensorProto.UINT8, shape)],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            [numpy_helper.from_array(np.ones(shape, np.float32), name) for name, shape in weights.items()],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )


def node(kind: str, inputs: str, output: str, **attributes) -> onnx.NodeProto:
    return helper.make_node(kind, inputs.split(), [output], output, **attributes)


def layers(model: onnx.ModelProto, precision: Precision):
    return {layer.name: layer for layer in find_workload(model, precision).layers}


def test_multiply_adds_of_each_operator():
    """Expected values by hand for strides, groups, dilation, and transposed convolutions and matrices."""
    model = graph(
        [
            node("Conv", "x a a_bias", "conv", strides=[2, 2], pads=[1, 1, 1, 1]),
            node("Conv", "conv b", "grouped", group=4, dilations=[2, 2]),
            node("ConvTranspose", "grouped c", "up", strides=[2, 2]),
            node("GlobalAveragePool", "up", "pooled"),
            node("Flatten", "pooled", "flat"),
            node("Gemm", "flat d", "gemm", transB=1),
            node("MatMul", "gemm e", "score"),
        ],
        ["score"],
        **{
            "a": (8, 3, 3, 3),
            "a_bias": (8,),
            "b": (12, 2, 3, 3),
            "c": (12, 5, 2, 2),
            "d": (7, 5),
            "e": (7, 9),
        },
    )
    found = layers(model, Precision.FP16)
    expected = {
        "cast": 0,
        "conv": (8 * 8) * 8 * (3 * 3 * 3),  # 16x16 at stride 2
        "grouped": (4 * 4) * 12 * (2 * 3 * 3),  # 8x8 minus twice the dilated kernel's radius of 2
        "up": (4 * 4) * 12 * (5 * 2 * 2),  # each input element meets each weight of its channel
        "pooled": 0,
        "gemm": 7 * 5,
        "score": 9 * 7,
    }
    assert {name: layer.macs for name, layer in found.items()} == expected
    assert sum(expected.values()) == find_workload(model, Precision.FP16).macs
    assert found["conv"].weight_bytes == 2 * (8 * 27 + 8)


def residual_model(size: int = 16) -> onnx.ModelProto:
    """Return a convolution, a residual block, and a scoring of elementwise operators."""
    return graph(
        [
            node("Conv", "x stem", "stem_out", pads=[1, 1, 1, 1]),
            node("Relu", "stem_out", "early"),
            node("Conv", "early first", "first_out", pads=[1, 1, 1, 1]),
            node("Relu", "first_out", "first_relu"),
            node("Conv", "first_relu second", "second_out", pads=[1, 1, 1, 1]),
            node("Add", "second_out early", "sum"),
            node("Relu", "sum", "features"),
            node("ReduceL2", "features", "norm", axes=[1]),
            node("Div", "features norm", "unit"),
            node("Mul", "unit unit", "square"),
            node("ReduceSum", "square axes", "map"),
        ],
        ["map"],
        size,
        **{"stem": (8, 3, 3, 3), "first": (8, 8, 3, 3), "second": (8, 8, 3, 3)},
    )


def with_axes(model: onnx.ModelProto) -> onnx.ModelProto:
    model.graph.initializer.append(numpy_helper.from_array(np.asarray([1], np.int64), "axes"))
    return model


def test_fused_kernels_and_their_bytes():
    """Tensors inside a kernel cause no traffic; inputs of INT8 layers have one byte, the scoring is FP32."""
    pixels, model = 16 * 16, with_axes(residual_model())
    half, integer = layers(model, Precision.FP16), layers(model, Precision.INT8)
    assert list(half) == list(integer) == ["cast", "stem_out", "first_out", "second_out", "norm", "unit"]
    assert half["second_out"].operators == ("Conv", "Add", "Relu")
    assert half["unit"].operators == ("Div", "Mul", "ReduceSum")
    formats = [layer.arithmetic.value for layer in integer.values()]
    assert formats == ["fp32", "fp16", "int8", "int8", "fp32", "fp32"]
    assert {layer.arithmetic.value for layer in half.values()} == {"fp32", "fp16"}

    def traffic(found):
        return [(layer.weight_bytes, layer.read_bytes, layer.written_bytes) for layer in found.values()]

    assert traffic(half) == [
        (0, 3 * pixels, 2 * 3 * pixels),  # uint8 images to normalized FP16
        (2 * 8 * 27, 2 * 3 * pixels, 2 * 8 * pixels),
        (2 * 8 * 72, 2 * 8 * pixels, 2 * 8 * pixels),
        (2 * 8 * 72, 2 * 2 * 8 * pixels, 2 * 8 * pixels),  # and the skip branch
        (0, 2 * 8 * pixels, 4 * pixels),
        (0, 2 * 8 * pixels + 4 * pixels, 4 * pixels),
    ]
    assert traffic(integer) == [
        (0, 3 * pixels, 2 * 3 * pixels),
        (2 * 8 * 27, 2 * 3 * pixels, 8 * pixels),
        (8 * 72, 8 * pixels, 8 * pixels),
        (8 * 72, 2 * 8 * pixels, 2 * 8 * pixels),  # a tensor for the scoring only stays FP16
        (0, 2 * 8 * pixels, 4 * pixels),
        (0, 2 * 8 * pixels + 4 * pixels, 4 * pixels),
    ]


def test_tensor_with_two_readers_or_as_an_output_is_written():
    nodes = [
        node("Conv", "x stem", "conv"),
        node("Relu", "conv", "relu"),
        node("Sigmoid", "relu", "first"),
        node("Tanh", "relu", "second"),
        node("Sub", "first second", "map"),
    ]
    found = layers(graph(nodes, ["map", "first"], stem=(4, 3, 1, 1)), Precision.FP32)
    operators = {name: layer.operators for name, layer in found.items()}
    assert operators["conv"] == ("Conv", "Relu")
    assert operators["first"] == ("Sigmoid",)
    assert operators["second"] == ("Tanh", "Sub")
    assert found["second"].read_bytes == 2 * 4 * 4 * 16 * 16


def test_workload_of_resnet_18_until_layer_3(bundle):
    """Published: 1.8142 GMAC at 224x224; without layer4 and classifier, at 64x64, for two networks."""
    layer4, classifier = 411_041_792, 512_000
    trunk = (1_814_073_344 - layer4 - classifier) * 64 * 64 // (224 * 224)
    workload = find_workload(onnx.load(str(bundle.model)), Precision.INT8)
    assert workload.macs == 2 * trunk
    assert sum(layer.arithmetic is Precision.INT8 and layer.macs > 0 for layer in workload.layers) == 28


def bound(macs: int, traffic: int, arithmetic: Precision) -> Layer:
    return Layer("layer", ("Conv",), arithmetic, macs, 0, traffic, 0)


def test_estimate_of_a_compute_bound_and_a_memory_bound_layer():
    """Expected values by hand at 20 W, in float64."""
    heavy, wide = bound(10**9, 10**6, Precision.INT8), bound(10**6, 10**8, Precision.FP16)
    heavy_ms = 2e9 / (2 * 128 * 48 * 1109.25e6) * 1e3
    wide_ms = 1e8 / (2 * 16 * 1866e6) * 1e3
    found = estimate_time(Workload(Precision.INT8, (heavy, wide)), XAVIER_NX, FASTEST)
    assert found.compute_bound_ms == pytest.approx(heavy_ms, rel=1e-12)
    assert found.memory_bound_ms == pytest.approx(wide_ms, rel=1e-12)
    assert found.lower_bound_ms == pytest.approx(heavy_ms + wide_ms, rel=1e-12)
    assert (found.compute_bound_layers, found.memory_bound_layers) == (1, 1)
    kernel_ms = FITTED.kernel_us / 1109.25
    expected = heavy_ms / (FITTED.shares["int8"] * FITTED.volta) + wide_ms / FITTED.memory + 2 * kernel_ms
    assert found.expected_ms == pytest.approx(expected, rel=1e-12)
    assert found.kernels_ms == pytest.approx(2 * kernel_ms, rel=1e-12)
    assert found.range_ms == pytest.approx([factor * expected for factor in BAND], rel=1e-12)


def test_depthwise_convolution_is_estimated_without_tensor_cores():
    model = graph(
        [node("Conv", "x a", "wide"), node("Conv", "wide b", "deep", group=8)],
        ["deep"],
        **{"a": (8, 3, 1, 1), "b": (8, 1, 3, 3)},
    )
    found = layers(model, Precision.FP16)
    assert [layer.grouped for layer in found.values()] == [False, False, True]
    plain = dataclasses.replace(found["deep"], macs=10**9, grouped=False)
    grouped = dataclasses.replace(plain, grouped=True)
    times = [
        estimate_time(Workload(Precision.FP16, (layer,)), XAVIER_NX, FASTEST).expected_ms
        for layer in (plain, grouped)
    ]
    assert times[1] > 4 * times[0]


def test_a_network_of_many_small_kernels_is_bound_by_their_number(bundle):
    """64x64 pixels: the arithmetic takes less than starting the kernels, on any board."""
    workload = find_workload(onnx.load(str(bundle.model)), Precision.INT8)
    for board in BOARDS:
        found = estimate_time(workload, board, board.fastest_mode)
        assert found.kernels_ms > found.expected_ms / 2 > found.lower_bound_ms / 2


@given(
    macs=st.integers(10**6, 10**12),
    traffic=st.integers(0, 10**9),
    arithmetic=st.sampled_from(COMMON_PRECISIONS),
    clock=st.floats(100, 2000),
)
def test_doubled_gpu_clock_halves_the_arithmetic_time_only(macs, traffic, arithmetic, clock):
    layer = bound(macs, traffic, arithmetic)
    slow, fast = (BoardMode(0, "mode", factor * clock, 1600) for factor in (1, 2))
    compute, memory = layer_times(layer, XAVIER_NX, slow)
    assert layer_times(layer, XAVIER_NX, fast) == (pytest.approx(compute / 2), memory)
    workload = Workload(arithmetic, (layer,))
    before, after = (estimate_time(workload, XAVIER_NX, mode).lower_bound_ms for mode in (slow, fast))
    if compute > 2 * memory:
        assert after == pytest.approx(before / 2)
    assert before / 2 * (1 - 1e-9) <= after <= before


@settings(max_examples=15, deadline=None)
@given(size=st.integers(4, 300), board=st.sampled_from(BOARDS), data=st.data())
def test_fewer_bits_are_never_slower(size: int, board: Board, data):
    mode = data.draw(st.sampled_from(board.modes))
    model = with_axes(residual_model(size))
    found = [find_workload(model, precision) for precision in COMMON_PRECISIONS]
    for wide, narrow in zip(found, found[1:]):
        for slower, faster in zip(wide.layers, narrow.layers):
            assert max(layer_times(faster, board, mode)) <= max(layer_times(slower, board, mode))
        fast, slow = (estimate_time(workload, board, mode) for workload in (narrow, wide))
        assert fast.lower_bound_ms < slow.lower_bound_ms
        assert fast.expected_ms < slow.expected_ms


def run(arguments: Sequence[object], folder: Path) -> subprocess.CompletedProcess:
    return run_cli("bench", *arguments, cwd=folder)


def test_command_output_is_called_an_estimate(bundle, tmp_path: Path):
    shown = run(["--estimate", bundle.path], tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith("ESTIMATE, nothing was measured")
    table = shown.stdout
    for part in (
        "20W (6, 7, 8)",
        "15W (0, 1, 2)",
        "10W (3, 4)",
        "10W desktop (5)",
        "fitted on 27 published latencies",
        "52.14",
        "24.98",
        "24.87",
        "eager PyTorch",
    ):
        assert part in table
    document = json.loads((tmp_path / "benchmarks/results/parts.estimate.json").read_text())
    assert document["schema"] == "adq-edge/estimate"
    assert "estimate, not a measurement" in document["note"]
    assert document["model"]["sha256"] == bundle.manifest.model_sha256
    assert [engine["precision"] for engine in document["engines"]] == ["fp32", "fp16", "int8"]
    assert all(len(engine["modes"]) == 9 for engine in document["engines"])


def test_estimate_of_another_board_has_a_file_of_its_own(bundle, tmp_path: Path):
    shown = run(["--estimate", bundle.path, "--board", "Orin Nano Super"], tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "MAXN_SUPER (2)" in shown.stdout
    assert "on Jetson Orin Nano Super 8 GB, batch 1" in shown.stdout
    assert "8 SMs, 8 GB, no DLA" in " ".join(shown.stdout.split())
    assert "52.14" not in shown.stdout  # measured on another board
    document = json.loads((tmp_path / "benchmarks/results/parts.orin-nano-super.estimate.json").read_text())
    assert document["board"] == "Jetson Orin Nano Super 8 GB"
    assert [mode["mode"]["sms"] for mode in document["engines"][0]["modes"]] == [8, 8, 8]


def test_lower_bound_is_below_the_measurements_of_the_study(bundle, tmp_path: Path):
    """Its images have 16 times as many pixels as those of the test."""
    result = estimate(bundle.path, tmp_path / "result.json")
    for engine in result.engines:
        fastest = max(engine.modes, key=lambda found: found.mode.memory_mhz)
        assert engine.study_ms is not None
        assert 0 < 16 * fastest.lower_bound_ms < engine.study_ms
    numbers = [text.partition("(")[2].rstrip(")") for text, _ in group_modes(result.engines[0].modes)]
    assert sorted(int(number) for group in numbers for number in group.split(", ")) == list(range(9))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--estimate", "none"], "none: no such bundle"),
        (["engine.onnx", "--estimate", "bundle"], "engine.onnx: --estimate measures no engine"),
        (
            ["--estimate", "bundle", "--board", "orin-nano-supr"],
            "no board is called 'orin-nano-supr'. Did you mean orin-nano-super? There are: xavier-nx, agx-",
        ),
        (["--board", "orin-nano"], "--board is for --estimate"),
    ],
)
def test_wrong_arguments_are_reported_in_one_line(arguments, message, tmp_path: Path):
    result = run(arguments, tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith(f"adq-edge: {message}")
    assert len(result.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_graph_without_fixed_sizes_is_rejected(bundle, tmp_path: Path):
    folder = Path(shutil.copytree(str(bundle.path), str(tmp_path / "dynamic")))
    model = onnx.load(str(bundle.model))
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "H"
    onnx.save(model, str(folder / "model.onnx"))
    manifest = dataclasses.replace(bundle.manifest, model_sha256=sha256(folder / "model.onnx"))
    manifest.write(folder / "manifest.json")
    result = run(["--estimate", "dynamic"], tmp_path)
    expected = (
        "dynamic/model.onnx: the size of tensor 'image' is not fixed. Export it with a fixed image size."
    )
    assert (result.returncode, result.stderr.strip()) == (2, f"adq-edge: {expected}")
    assert not (tmp_path / "benchmarks").exists()


def test_invalid_graph_is_rejected():
    model = graph([node("Add", "x five", "map")], ["map"], five=(5, 1, 1))
    with pytest.raises(BundleError, match="do not match"):
        find_workload(model, Precision.FP16)
