"""A small engine that is written at once, for tests of the runtimes."""

from __future__ import annotations

import dataclasses
import platform
from pathlib import Path
from typing import Any, Optional

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from adq_edge.artifacts.bundle import FileReference
from adq_edge.artifacts.sidecar import Sidecar, sidecar_path
from adq_edge.core.files import sha256
from adq_edge.core.options import Precision

SIZE = 32
MODEL_SHA256 = "0" * 64
"""The hash of the model in a sidecar, if the test names no other."""


def make_model(weights_mb: int = 0, batch: Optional[int] = None) -> onnx.ModelProto:
    """Return a model whose map is the image's brightness; `weights_mb` adds weights that only use memory."""
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels"], ["anomaly_map"], axes=[3], keepdims=0),
        helper.make_node("ReduceMax", ["anomaly_map"], ["brightest"], axes=[1, 2], keepdims=0),
        # the image selects the row of the weights, so that no row can be constant-folded
        helper.make_node("Cast", ["brightest"], ["row"], to=TensorProto.INT64),
        helper.make_node("Gather", ["weights", "row"], ["rows"], axis=0),
        helper.make_node("ReduceMean", ["rows"], ["mean"], axes=[1], keepdims=0),
        helper.make_node("Add", ["brightest", "mean"], ["anomaly_score"]),
    ]
    weights = np.zeros((256, max(1, weights_mb * 1_000_000 // 1024)), np.float32)
    count = "N" if batch is None else batch
    graph = helper.make_graph(
        nodes,
        "engine",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [count, SIZE, SIZE, 3])],
        [
            helper.make_tensor_value_info("anomaly_map", TensorProto.FLOAT, [count, SIZE, SIZE]),
            helper.make_tensor_value_info("anomaly_score", TensorProto.FLOAT, [count]),
        ],
        [numpy_helper.from_array(weights, "weights")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def write_engine(path: Path, weights_mb: int = 0, batch: Optional[int] = None) -> Path:
    """Write an engine with the model of `make_model`."""
    return write_file(path, make_model(weights_mb, batch).SerializeToString())


def write_file(path: Path, content: bytes, **changes: Any) -> Path:
    """Write any content as an engine file, and a sidecar with its hash and with changed fields."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    sidecar = Sidecar(
        name=path.stem,
        runtime="onnxruntime",
        runtime_version="1",
        device="cpu",
        machine=platform.machine(),
        precision=Precision.FP32,
        arch="stfpm",
        image_size=(SIZE, SIZE),
        map_size=(SIZE, SIZE),
        engine_sha256=sha256(path),
        model=FileReference("model.onnx", MODEL_SHA256),
        operators={"ReduceMean": 2, "Add": 1},
        calibration=None,
        threshold=None,
        data=None,
    )
    dataclasses.replace(sidecar, **changes).write(sidecar_path(path))
    return path
