from __future__ import annotations

import contextlib
import re
import struct
from typing import Dict, Tuple

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from adq_edge.calibration.activations import collect
from adq_edge.calibration.calibrators.registry import make_calibrator
from adq_edge.calibration.sources import image_source
from adq_edge.core.errors import CalibrationError
from adq_edge.quantization.float_model import FloatModel
from adq_edge.quantization.passes.dynamic_ranges import (
    CalibrationAlgorithm,
    CalibrationCache,
    dynamic_ranges,
    float32_nodes,
    read_calibration_cache,
    write_calibration_cache,
)
from adq_edge.quantization.region import find_region
from factories.images import SIZE

Ranges = Dict[str, Tuple[float, float]]

ENTROPY = CalibrationAlgorithm.ENTROPY_2


@pytest.fixture(scope="module")
def model(bundle) -> onnx.ModelProto:
    return onnx.load(str(bundle.model))


@pytest.fixture(scope="module")
def ranges(model: onnx.ModelProto, dataset) -> Ranges:
    images = image_source(dataset, 4).images((SIZE, SIZE))
    histograms = collect(model, find_region(model).measured, images, threads=2)
    return {name: make_calibrator("minmax").compute_range(h) for name, h in histograms.items()}


# --- ranges ------------------------------------------------------------------------------------


def test_every_tensor_of_the_networks_has_a_range(model: onnx.ModelProto, ranges: Ranges):
    amax = dynamic_ranges(FloatModel.of(model), ranges)
    assert set(find_region(model).tensors) <= set(amax)
    for node in model.graph.node:
        if node.op_type in ("Conv", "Relu", "MaxPool", "Add"):
            assert {node.input[0], node.output[0]} <= set(amax), node.name
    for name, (low, high) in ranges.items():
        assert amax[name] == max(-low, high)
    order = [name for node in model.graph.node for name in node.output if name in amax]
    assert list(amax) == order


def test_scoring_has_no_range_and_is_pinned(model: onnx.ModelProto, ranges: Ranges):
    pinned = set(float32_nodes(FloatModel.of(model)))
    everything = {node.name: node for node in model.graph.node}
    networks = set(everything) - pinned
    assert {everything[name].op_type for name in networks} == {"Conv", "Relu", "MaxPool", "Add"}
    assert all(name.startswith(("/teacher", "/student")) for name in networks)
    amax = dynamic_ranges(FloatModel.of(model), {**ranges, "anomaly_map": (0.0, 1.0)})
    made_by_scoring = {
        name
        for node in model.graph.node
        if node.name in pinned
        for name in node.output
        if name not in ("/Cast_output_0", "/Transpose_output_0", "/Sub_output_0", "/Mul_output_0")
    }
    assert len(made_by_scoring) == len(pinned) - 4
    assert not made_by_scoring & set(amax)


def test_inherited_ranges(model: onnx.ModelProto, ranges: Ranges):
    amax = dynamic_ranges(FloatModel.of(model), ranges)
    assert not {node.output[0] for node in model.graph.node if node.op_type == "MaxPool"} & set(ranges)
    for node in model.graph.node:
        if node.op_type in ("MaxPool", "Relu"):
            assert amax[node.output[0]] == amax[node.input[0]] > 0


def test_first_tensors_have_the_range_of_pixels(model: onnx.ModelProto, ranges: Ranges):
    amax = dynamic_ranges(FloatModel.of(model), ranges)
    assert "image" not in amax  # uint8 has no scale
    assert amax["/Cast_output_0"] == amax["/Transpose_output_0"] == 255.0
    assert amax["/Sub_output_0"] == pytest.approx(255.0 * (1 - 0.406), rel=1e-6)  # ImageNet's smallest mean
    assert amax["/Mul_output_0"] == max(map(abs, ranges["/Mul_output_0"]))  # measured goes first
    some = {name: r for name, r in ranges.items() if name != "/Mul_output_0"}
    with pytest.raises(CalibrationError, match=r"no range for tensor '/Mul_output_0'"):
        dynamic_ranges(FloatModel.of(model), some)


@pytest.mark.parametrize("high", [0.0, 1e-30])
def test_no_scale_is_zero(model: onnx.ModelProto, ranges: Ranges, high: float):
    dead = "/student/relu/Relu_output_0"
    amax = dynamic_ranges(FloatModel.of(model), {**ranges, dead: (0.0, high)})
    largest = max(amax[name] for name in FloatModel.of(model).region.made)
    assert amax[dead] == amax["/student/maxpool/MaxPool_output_0"] == pytest.approx(1e-4 * largest)
    assert min(amax.values()) == amax[dead]
    assert all(amax[name] == max(-low, high) for name, (low, high) in ranges.items() if name != dead)
    nothing = dict.fromkeys(ranges, (0.0, 0.0))
    assert {
        dynamic_ranges(FloatModel.of(model), nothing)[name] for name in FloatModel.of(model).region.made
    } == {1.0}


def test_missing_range_is_refused(model: onnx.ModelProto, ranges: Ranges):
    some = dict(ranges)
    removed = next(name for name in some if "layer2" in name)
    del some[removed]
    with pytest.raises(CalibrationError, match=f"no range for tensor '{removed}'"):
        dynamic_ranges(FloatModel.of(model), some)


@pytest.mark.parametrize("impossible", [(1.0, 0.0), (0.0, np.inf), (np.nan, 1.0), (-np.inf, 0.0)])
def test_impossible_range_is_refused(model: onnx.ModelProto, ranges: Ranges, impossible):
    with pytest.raises(CalibrationError, match=r"impossible range \[.*\] of '/Mul_output_0'"):
        dynamic_ranges(FloatModel.of(model), {**ranges, "/Mul_output_0": impossible})


def small_network(kind: int, nodes, constants=()) -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node(op, inputs, [output], output) for op, inputs, output in nodes],
        "g",
        [helper.make_tensor_value_info("image", kind, ["N", 1, 4, 4])],
        [helper.make_tensor_value_info(nodes[-1][2], TensorProto.FLOAT, None)],
        [
            numpy_helper.from_array(np.full((1, 1, 1, 1), value, np.float32), name)
            for name, value in (("weight", 1.0), *constants)
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_relu_that_is_not_the_only_reader_inherits_from_before_it():
    nodes = [
        ("Conv", ["image", "weight"], "convolved"),
        ("Relu", ["convolved"], "features"),
        ("Sub", ["convolved", "features"], "anomaly_map"),
    ]
    amax = dynamic_ranges(
        FloatModel.of(small_network(TensorProto.FLOAT, nodes)), {"image": (0, 2), "convolved": (-5, 3)}
    )
    assert amax == {"image": 2, "convolved": 5, "features": 5}


def test_normalization_may_be_written_in_any_way():
    nodes = [
        ("Div", ["image", "scale"], "unit"),
        ("Sub", ["one", "unit"], "inverted"),
        ("Add", ["inverted", "shift"], "shifted"),
        ("Conv", ["shifted", "weight"], "anomaly_map"),
    ]
    constants = (("scale", 255.0), ("one", 1.0), ("shift", -3.0))
    measured = {"shifted": (-2.5, -2.0), "anomaly_map": (0, 1)}
    amax = dynamic_ranges(FloatModel.of(small_network(TensorProto.FLOAT, nodes, constants)), measured)
    assert amax == {"image": 255, "unit": 1, "inverted": 1, "shifted": 2.5, "anomaly_map": 1}


def test_names_are_those_that_tensorrts_parser_gives(model: onnx.ModelProto, ranges: Ranges):
    from factories.rtx import RecordingLogger, trt

    logger = RecordingLogger()
    network = trt.Builder(logger).create_network(0)
    assert trt.OnnxParser(network, logger).parse(model.SerializeToString())
    layers = {layer.name: layer for layer in map(network.get_layer, range(network.num_layers))}
    kernels = {node.name for node in model.graph.node} - set(float32_nodes(FloatModel.of(model)))
    assert kernels <= set(layers)
    tensors = {
        tensor.name for name in kernels for tensor in (layers[name].get_input(0), layers[name].get_output(0))
    }
    amax = dynamic_ranges(FloatModel.of(model), ranges)
    assert tensors == set(amax) - {"/Cast_output_0", "/Transpose_output_0", "/Sub_output_0"}
    outside = {layer.type.name for name, layer in layers.items() if name not in kernels}
    assert not outside & {"CONVOLUTION", "ACTIVATION", "POOLING"}


# --- cache: writing ----------------------------------------------------------------------------


def test_cache_byte_for_byte():
    text = write_calibration_cache({"x": 1.0, "a:b/c": 15.875}, "8.5.2.2", "EntropyCalibration2")
    assert text == b"TRT-8502-EntropyCalibration2\nx: 3c010204\na:b/c: 3e000000\n"


@pytest.mark.parametrize(
    ("version", "number"),
    [
        ("8.5.2", 8502),
        ("8.5.2.2", 8502),
        ("8.6.1", 8601),
        ("8.6.1.post1", 8601),
        ("10.3.0", 100300),
        ("10.13.0.35", 101300),
        ("10.14.1.48", 101401),
    ],
)
@pytest.mark.parametrize("algorithm", list(CalibrationAlgorithm))
def test_header(version: str, number: int, algorithm: CalibrationAlgorithm):
    header = write_calibration_cache({"x": 1.0}, version, algorithm).split(b"\n")[0].decode()
    assert header == f"TRT-{number}-{algorithm.value}"
    cache = read_calibration_cache(write_calibration_cache({"x": 1.0}, version, algorithm.value))
    assert (cache.version, cache.algorithm) == (number, algorithm.value)


names = st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), min_size=1)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(names, st.floats(1e-35, 1e38), min_size=1))
def test_round_trip(ranges: Dict[str, float]):
    text = write_calibration_cache(ranges, "8.5.2", ENTROPY)
    cache = read_calibration_cache(text)
    assert list(cache.ranges) == list(ranges)
    for name, amax in ranges.items():
        assert cache.ranges[name] == pytest.approx(amax, rel=2.0**-24)
    assert write_calibration_cache(cache.ranges, "8.5.2", ENTROPY) == text


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(names, st.floats(1e-35, 1e38), min_size=1))
def test_tensorrts_own_reader_understands_it(ranges: Dict[str, float]):
    """The loop of sampleEngines.cpp: the value is the 8 digits after the last colon."""
    lines = write_calibration_cache(ranges, "8.5.2", ENTROPY).decode().split("\n")[1:-1]
    read = {}
    for line in lines:
        colon = line.rfind(":")
        digits = int(line[colon + 2 : colon + 2 + 8], 16)
        read[line[:colon]] = 127 * struct.unpack("<f", struct.pack("<I", digits))[0]
    assert read == read_calibration_cache(write_calibration_cache(ranges, "8.5.2", ENTROPY)).ranges


def test_cache_of_a_model(model: onnx.ModelProto, ranges: Ranges):
    amax = dynamic_ranges(FloatModel.of(model), ranges)
    cache = read_calibration_cache(write_calibration_cache(amax, "8.5.2.2", ENTROPY))
    assert cache == CalibrationCache(8502, "EntropyCalibration2", pytest.approx(amax, rel=1e-7))


@pytest.mark.parametrize("amax", [0.0, -1.0, np.nan, np.inf, 1e-44, 1e-37 / 127, 1e41])
def test_amax_that_no_scale_stands_for_is_not_written(amax: float):
    with pytest.raises(CalibrationError, match=r"impossible amax .* of 'x'"):
        write_calibration_cache({"y": 1.0, "x": amax}, "8.5.2", ENTROPY)


@pytest.mark.parametrize("name", ["", "a\nb"])
def test_name_that_breaks_the_format_is_not_written(name: str):
    with pytest.raises(CalibrationError, match="cannot hold the tensor name"):
        write_calibration_cache({name: 1.0}, "8.5.2", ENTROPY)


def test_cache_of_nothing_for_nobody_is_not_written():
    with pytest.raises(CalibrationError, match="no ranges"):
        write_calibration_cache({}, "8.5.2", ENTROPY)
    with pytest.raises(CalibrationError, match="unknown calibration algorithm 'LegacyCalibration'"):
        write_calibration_cache({"x": 1.0}, "8.5.2", "LegacyCalibration")
    with pytest.raises(CalibrationError, match=r"version '8\.5' is not of the form 8\.5\.2"):
        write_calibration_cache({"x": 1.0}, "8.5", ENTROPY)


# --- cache: reading ----------------------------------------------------------------------------

HEADER = b"TRT-8502-EntropyCalibration2\n"


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "not a calibration cache: starts with ''"),
        (b"\x89PNG\r\n\x1a\n\xff", "not a calibration cache: not text"),
        (b'{"schema": "adq-edge/ranges"}\n', "not a calibration cache: starts with '{"),
        (b"TRT-8502-EntropyCalibration2\r\nx: 3c010204\r\n", "not a calibration cache"),
        (b"TRT--EntropyCalibration2\nx: 3c010204\n", "not a calibration cache"),
        (b"TRT-8502-LegacyCalibration\nx: 3c010204\n", "unknown calibration algorithm 'LegacyCalibration'"),
        (HEADER[:-1], "cut short"),
        (HEADER, "cut short"),
        (HEADER + b"x: 3c010204", "cut short"),
        (HEADER + b"x: 3c0102\n", "line 2 .* is not a name and 8 hexadecimal digits"),
        (HEADER + b"x: 3c010204\ny: 0\n", "line 3 .* is not a name and 8 hexadecimal digits"),
        (HEADER + b"x: 3c01020g\n", "line 2 .* is not"),
        (HEADER + b"x: 0x3c0102\n", "line 2 .* is not"),
        (HEADER + b"x: 3c0102045\n", "line 2 .* is not"),
        (HEADER + b"x 3c010204\n", "line 2 .* is not"),
        (HEADER + b": 3c010204\n", "line 2 .* is not"),
        (HEADER + b"\nx: 3c010204\n", "line 2 .* is not"),
        (HEADER + b"x: 3c010204\n\n", "line 3 .* is not"),
        (HEADER + b"x: 3c010204\ny: 3c010204\nx: 3c010205\n", "holds 'x' twice"),
        (HEADER + b"x: 7fc00000\n", "gives 'x' the scale nan"),
        (HEADER + b"x: 7f800000\n", "gives 'x' the scale inf"),
        (HEADER + b"x: bc010204\n", "gives 'x' the scale -0.007"),
        (HEADER + b"x: 00000000\n", "gives 'x' the scale 0"),
        (HEADER + b"x: 80000000\n", "gives 'x' the scale -0"),
        (HEADER + b"x: 00000001\n", "gives 'x' the scale 1.4013e-45"),
    ],
)
def test_bad_cache_is_refused(data: bytes, complaint: str):
    with pytest.raises(CalibrationError, match=complaint) as caught:
        read_calibration_cache(data)
    assert "\n" not in str(caught.value)


def test_cache_of_tensorrts_own_is_read():
    text = HEADER + b"(Unnamed Layer* 22) [Constant]_output: 3C010204\nx: 3e000000\n"
    cache = read_calibration_cache(text)
    assert cache.ranges == {"(Unnamed Layer* 22) [Constant]_output": pytest.approx(1.0), "x": 15.875}


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.binary(), st.binary().map(lambda tail: HEADER + tail), st.text().map(str.encode)))
def test_any_bytes_are_read_or_refused(data: bytes):
    with contextlib.suppress(CalibrationError):
        assert all(0 < amax < np.inf for amax in read_calibration_cache(data).ranges.values())


def test_cache_cut_within_a_line_is_refused():
    text = write_calibration_cache({"x": 1.0, "a: 3c010204": 2.0, "y": 3.0}, "8.5.2", ENTROPY)
    read = []
    for length in range(len(text)):
        with contextlib.suppress(CalibrationError):
            read_calibration_cache(text[:length])
            read.append(length)
    ends = [match.end() for match in re.finditer(b"\n", text)]
    assert read == ends[1:-1]  # cut between two lines: nothing in the format could tell
