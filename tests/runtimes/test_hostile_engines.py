"""Engines that are damaged, of another tool, or not as their sidecars describe them."""

from __future__ import annotations

import contextlib
import importlib.util
import json
from pathlib import Path
from typing import Any, Callable, Dict

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from adq_edge.artifacts.sidecar import read_sidecar, sidecar_path
from adq_edge.core.errors import AdqError, EngineError
from adq_edge.runtimes.registry import load_engine
from factories.tiny_engine import SIZE, make_model, write_engine, write_file

RUNTIMES = ["onnxruntime"] + (["openvino"] if importlib.util.find_spec("openvino") else [])
IMAGE = np.zeros((1, SIZE, SIZE, 3), np.uint8)


def edited(edit: Callable[[Any], None]) -> bytes:
    """Return the tiny model after an edit of its graph."""
    model = make_model()
    edit(model.graph)
    return model.SerializeToString()


def rename_output(graph: onnx.GraphProto) -> None:
    graph.output[1].name = graph.node[-1].output[0] = "score"


def keep_axis(graph: onnx.GraphProto) -> None:
    """Give scores of [N, 1], declared as [N]."""
    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [1])
    graph.initializer.append(axes)
    graph.node[-1].output[0] = "flat"
    graph.node.append(helper.make_node("Unsqueeze", ["flat", "axes"], ["anomaly_score"]))
    graph.output[1].type.tensor_type.ClearField("shape")


def add_custom_operator(graph: onnx.GraphProto) -> None:
    graph.node[-1].output[0] = "plain"
    graph.node.append(helper.make_node("Sharpen", ["plain"], ["anomaly_score"], domain="custom"))


def put_weights_outside(graph: onnx.GraphProto) -> None:
    weights = graph.initializer[0]
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="../weights.bin")


def hide_weights_outside(graph: onnx.GraphProto) -> None:
    """Put them into an attribute of a node of a subgraph."""
    tensor = helper.make_tensor("t", TensorProto.FLOAT, [1], [1.0])
    tensor.external_data.add(key="location", value="/etc/passwd")
    inner = helper.make_graph([helper.make_node("Constant", [], ["c"], value=tensor)], "inner", [], [])
    graph.node.append(helper.make_node("If", ["brightest"], ["unused"], then_branch=inner, else_branch=inner))


def make_inner_cycle(graph: onnx.GraphProto) -> None:
    nodes = [helper.make_node("Neg", ["b"], ["a"]), helper.make_node("Neg", ["a"], ["b"])]
    inner = helper.make_graph(nodes, "inner", [], [])
    graph.node.append(helper.make_node("If", ["brightest"], ["unused"], then_branch=inner, else_branch=inner))


def pool_without_stride(graph: onnx.GraphProto) -> None:
    name, sizes = "anomaly_map", {"kernel_shape": [1, 1], "strides": [0, 0]}
    graph.node.append(helper.make_node("MaxPool", [name], ["unused"], **sizes))


def hide_pool_without_stride(graph: onnx.GraphProto) -> None:
    inner = helper.make_graph([], "inner", [], [])
    pool_without_stride(inner)
    graph.node.append(helper.make_node("If", ["brightest"], ["unused"], then_branch=inner, else_branch=inner))


FILES: Dict[str, Any] = {
    "empty": (b"", "is not an ONNX file"),
    "text": (b"# my engine\nsee README\n" * 9, "is not an ONNX file"),
    "plan of TensorRT": (b"ftrt\x00\x00\x01" + bytes(range(256)) * 20, "is not an ONNX file"),
    "truncated": (make_model().SerializeToString()[:-700], "is not an ONNX file"),
    "no outputs": (edited(lambda graph: graph.ClearField("output")), r"has the outputs \(none\)"),
    "other output": (edited(rename_output), "has the outputs anomaly_map, score, an anomaly model has"),
    "two inputs": (
        edited(lambda graph: graph.input.append(helper.make_tensor_value_info("size", 7, [2]))),
        "has the inputs image, size, an anomaly model has image",
    ),
    "float input": (
        edited(lambda graph: graph.input[0].CopyFrom(helper.make_tensor_value_info("image", 1, ["N", 8, 8]))),
        r"has the tensor image as float \[\?, 8, 8\], its description as uint8 \[\?, 32, 32, 3\]",
    ),
    "sequence input": (
        edited(lambda graph: graph.input[0].type.sequence_type.elem_type.tensor_type.SetInParent()),
        "has the tensor image as sequence_type",
    ),
    "map of another rank": (
        edited(lambda graph: graph.output[0].type.tensor_type.shape.dim.add(dim_value=1)),
        r"has the tensor anomaly_map as float \[\?, 32, 32, 1\]",
    ),
    "scores of two axes": (
        edited(keep_axis),
        r"gives anomaly_score of float32 \[1, 1\], its sidecar describes float32 \[1\]",
    ),
    "custom operator": (edited(add_custom_operator), "Sharpen|fully converted"),
    "weights in another file": (edited(put_weights_outside), "keeps its weights in other files"),
    "cycle": (edited(lambda graph: graph.node[1].input.append("mean")), "uses 'mean' before it is computed"),
    "cycle in a subgraph": (edited(make_inner_cycle), "uses 'b' before it is computed"),
    "no stride": (edited(pool_without_stride), "strides of MaxPool is not positive"),
    "no stride in a subgraph": (edited(hide_pool_without_stride), "strides of MaxPool is not positive"),
    "hidden weights in another file": (edited(hide_weights_outside), "keeps its weights in other files"),
}


def use(path: Path, runtime: str) -> None:
    with load_engine(path, runtime=runtime, threads=1) as engine:
        engine.run(IMAGE)
        engine.operators()


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("name", FILES)
def test_unusable_engine_is_refused_in_one_line(tmp_path: Path, name: str, runtime: str, capfd: Any):
    content, message = FILES[name]
    path = write_file(tmp_path / "tiny.onnx", content)
    with pytest.raises(EngineError, match=message) as caught:
        use(path, runtime)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(path))
    assert capfd.readouterr() == ("", "")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_engine_with_changed_bytes_is_refused_or_gives_valid_results(tmp_path: Path, data: st.DataObject):
    content = bytearray(make_model().SerializeToString())
    place = st.integers(0, len(content) - 1)
    for _ in range(data.draw(st.integers(1, 6))):
        start, length = data.draw(place), data.draw(st.integers(0, 20))
        content[start : start + length] = data.draw(st.binary(max_size=20))
    path = write_file(tmp_path / "tiny.onnx", bytes(content))
    with contextlib.suppress(AdqError):
        use(path, "onnxruntime")


SIDECARS: Dict[str, Any] = {
    "unknown runtime": ({"runtime": "x"}, "its runtime 'x' is not one of: onnxruntime, openvino, tensorrt"),
    "unknown device": ({"device": "toaster"}, "its device 'toaster' is not one of: cpu, jetson"),
    "huge image": ({"image_size": [10**9, 10**9]}, "its image size is 1000000000x1000000000 pixels"),
    "long image": (
        {"image_size": [32, 160000]},
        "its image size is 32x160000 pixels; the limits are 1 to 4096",
    ),
    "many pixels": ({"image_size": [4096, 4097]}, "16 megapixels"),
    "negative image": ({"image_size": [-32, 32]}, "its image size is -32x32 pixels"),
    "empty map": ({"map_size": [0, 32]}, "its map size is 0x32 pixels"),
    "three sizes": ({"image_size": [32, 32, 3]}, "not a valid adq-edge/engine file"),
    "size as text": ({"image_size": "32x32"}, "not a valid adq-edge/engine file"),
    "name as number": ({"name": 3}, "not a valid adq-edge/engine file"),
    "path as name": ({"name": "../x"}, "its name is not a plain file name"),
    "other image size": ({"image_size": [64, 64]}, "has the tensor image as uint8"),
    "other map size": ({"map_size": [8, 8]}, "has the tensor anomaly_map as float"),
    "empty embedding": ({"embedding_size": 0}, "its embedding has 0 numbers; limits: 1 to 65536"),
    "embedding that is not there": ({"embedding_size": 5}, "has the outputs anomaly_map, anomaly_score, an"),
    "many scale maps": ({"scale_sizes": [[8, 8]] * 17}, "it has 17 scale maps; the limit is 16"),
    "huge scale map": ({"scale_sizes": [[8, 8], [9999, 1]]}, "the size of its scale map 2 is 9999x1 pixels"),
    "runtime of a GPU": ({"runtime": "tensorrt-rtx"}, "TensorRT|built for"),
}


@pytest.mark.parametrize("name", SIDECARS)
def test_unusable_sidecar_is_refused_in_one_line(tmp_path: Path, name: str):
    changes, message = SIDECARS[name]
    path = write_engine(tmp_path / "tiny.onnx")
    content = json.loads(sidecar_path(path).read_text())
    sidecar_path(path).write_text(json.dumps({**content, **changes}))
    with pytest.raises(AdqError, match=message) as caught:
        load_engine(path, trust=True)
    assert "\n" not in str(caught.value)


def test_unknown_fields_of_a_sidecar_are_ignored(tmp_path: Path):
    path = write_engine(tmp_path / "tiny.onnx")
    content = json.loads(sidecar_path(path).read_text())
    sidecar_path(path).write_text(json.dumps({**content, "color": "blue"}))
    assert read_sidecar(path).name == "tiny"
    with load_engine(path) as engine:
        assert engine.run(IMAGE).scores.shape == (1,)


@pytest.mark.parametrize(
    "images", [None, [1, 2], IMAGE[0], IMAGE.astype(np.float32), IMAGE[:0], IMAGE[:, :8]]
)
def test_wrong_images_are_refused_in_one_line(tmp_path: Path, images: Any):
    with load_engine(write_engine(tmp_path / "tiny.onnx")) as engine:
        with pytest.raises(EngineError, match=r"takes uint8 \[N, 32, 32, 3\] images|without images"):
            engine.run(images)
        assert engine.run(np.asfortranarray(IMAGE)).scores.shape == (1,)


@pytest.mark.parametrize("threads", [0, -1, 10**6, 2.5, "2"])
def test_impossible_number_of_threads_is_refused(tmp_path: Path, threads: Any):
    """ONNX Runtime would start a million threads."""
    with pytest.raises(AdqError, match=r"threads: is .* Use 1 to 1024"):
        load_engine(write_engine(tmp_path / "tiny.onnx"), threads=threads)
