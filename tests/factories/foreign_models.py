"""Small ONNX models as other tools write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Union

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

MEAN = np.array([0.485, 0.456, 0.406], np.float32).reshape(1, 3, 1, 1)
STD = np.array([0.229, 0.224, 0.225], np.float32).reshape(1, 3, 1, 1)
Axis = Union[int, str, None]


class GraphWriter:
    """Collects the nodes and constants of a model; each method returns the name of a tensor."""

    def __init__(self, opset: int = 17, seed: int = 0) -> None:
        self.opset = opset
        self.nodes: List[onnx.NodeProto] = []
        self.constants: List[onnx.TensorProto] = []
        self.generator = np.random.default_rng(seed)

    def add(self, operator: str, *inputs: Any, output: Optional[str] = None, **attributes: Any) -> str:
        """Add a node; inputs that are arrays become constants."""
        name = output or f"t{len(self.nodes)}"
        names = [item if isinstance(item, str) else self.constant(item) for item in inputs]
        self.nodes.append(helper.make_node(operator, names, [name], **attributes))
        return name

    def constant(self, value: Any) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def convolve(self, tensor: str, channels: int, before: int, stride: int = 1) -> str:
        scale = np.float32(1 / np.sqrt(9 * before))
        weight = self.generator.normal(0, 1, (channels, before, 3, 3)).astype(np.float32) * scale
        bias = self.generator.normal(0, 0.1, channels).astype(np.float32)
        output = self.add("Conv", tensor, weight, bias, strides=[stride] * 2, pads=[1] * 4)
        return self.add("Relu", output)

    def reduce(self, operator: str, tensor: str, axes: Sequence[int], **values: Any) -> str:
        """Add a reduction in the form of the opset."""
        if self.opset >= 18 or operator == "ReduceSum":
            return self.add(operator, tensor, np.asarray(axes, np.int64), **values)
        return self.add(operator, tensor, axes=list(axes), **values)

    def network(self, tensor: str, image_channels: int = 3) -> str:
        """Add convolutions and the energy of their features: a map `[N, 1, h, w]` of a quarter."""
        features = self.convolve(self.convolve(tensor, 8, image_channels, 2), 16, 8, 2)
        return self.reduce("ReduceMean", self.add("Mul", features, features), [1], keepdims=1)

    def model(
        self, inputs: Dict[str, Sequence[Axis]], outputs: Dict[str, Any], kind: int = TensorProto.FLOAT
    ):
        """Return the model; `outputs` has shapes, or (type, shape)."""
        graph = helper.make_graph(
            self.nodes,
            "model",
            [helper.make_tensor_value_info(name, kind, shape) for name, shape in inputs.items()],
            [_output(name, shape) for name, shape in outputs.items()],
            self.constants,
        )
        opsets = [helper.make_opsetid("", self.opset)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="test")


def _output(name: str, shape: Any) -> onnx.ValueInfoProto:
    kind, sizes = shape if isinstance(shape, tuple) else (TensorProto.FLOAT, shape)
    return helper.make_tensor_value_info(name, kind, sizes)


def anomalib_model(path: Path, *, size: int = 32, opset: int = 18, external: bool = False) -> Path:
    """Write a model as anomalib 2 does: any size, resized and normalized inside, scores from 0 to 1."""
    writer = GraphWriter(opset)
    shape = writer.add("Shape", "input")
    batch = writer.add("Gather", shape, np.array([0], np.int64), axis=0)
    sizes = writer.add("Concat", batch, np.array([3, size, size], np.int64), axis=0)
    resized = writer.add(
        "Resize", "input", "", "", sizes, mode="linear", coordinate_transformation_mode="half_pixel"
    )
    normalized = writer.add("Div", writer.add("Sub", resized, MEAN), STD)
    small = writer.network(normalized)
    sizes = writer.add("Concat", batch, np.array([1, size, size], np.int64), axis=0)
    raw = writer.add(
        "Resize", small, "", "", sizes, mode="linear", coordinate_transformation_mode="half_pixel"
    )
    score = writer.reduce("ReduceMax", raw, [-2, -1], keepdims=0)
    for tensor, output, mark, limits in (
        (score, "pred_score", "pred_label", (0.4, 0.7)),
        (raw, "anomaly_map", "pred_mask", (0.3, 0.9)),
    ):
        threshold, span = (np.float32(value) for value in limits)
        moved = writer.add("Div", writer.add("Sub", tensor, threshold), span)
        clipped = writer.add("Clip", writer.add("Add", moved, np.float32(0.5)), np.float32(0), np.float32(1))
        writer.add("Where", np.array(True), clipped, tensor, output=output)
        writer.add("Greater", output, np.float32(0.5), output=mark)
    model = writer.model(
        {"input": ["N", 3, "h", "w"]},
        {
            "pred_score": ["N", 1],
            "pred_label": (TensorProto.BOOL, ["N", 1]),
            "anomaly_map": ["N", 1, size, size],
            "pred_mask": (TensorProto.BOOL, ["N", 1, size, size]),
        },
    )
    return save(model, path, external)


def plain_model(path: Path, **changes: Any) -> Path:
    """Write a model with a map only, as a plain torch.onnx.export does; `changes` are those of `plain`."""
    return save(plain(**changes), path)


def plain(
    *,
    batch: Axis = "N",
    size: Axis = 32,
    opset: int = 17,
    score: bool = False,
    normalize: bool = True,
) -> onnx.ModelProto:
    """Return a model of NCHW float pixels from 0 to 1."""
    writer = GraphWriter(opset)
    tensor = writer.add("Div", writer.add("Sub", "x", MEAN), STD) if normalize else "x"
    found = writer.add("Identity", writer.network(tensor), output="map")
    outputs: Dict[str, Any] = {"map": [batch, 1, None, None]}
    if score:
        writer.add("Squeeze", writer.reduce("ReduceMax", found, [2, 3]), np.array([2, 3]), output="score")
        outputs["score"] = [batch, 1]
    return writer.model({"x": [batch, 3, size, size]}, outputs)


def save(model: onnx.ModelProto, path: Path, external: bool = False) -> Path:
    """Write a model; its weights in another file if `external`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if external:
        onnx.save(
            model, str(path), save_as_external_data=True, location=f"{path.name}.data", size_threshold=64
        )
    else:
        onnx.save(model, str(path))
    return path
