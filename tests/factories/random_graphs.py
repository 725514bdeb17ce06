"""Random graphs of a bundle's form, of operators that networks consist of."""

from __future__ import annotations

from typing import Any, Dict, List, Sequence, Tuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from adq_edge.quantization.passes import pipelines
from adq_edge.quantization.passes.frame import run_passes

OPERATORS = [
    "Conv", "Conv", "Conv", "Add", "Relu", "LeakyRelu", "Concat", "MaxPool", "AveragePool", "Resize", "Gate",
    "Clip", "BatchNormalization", "ConvTranspose", "Mul", "Sub", "Max", "Pad", "Transpose", "HardSwish",
    "Tanh", "Elu", "Softplus", "Erf",
]  # fmt: skip


def random_graph(seed: int, steps: Sequence[Tuple[str, int]]) -> onnx.ModelProto:
    """Return a graph for images of 8 x 8 pixels.

    Args:
        seed: the seed of its weights.
        steps: operators of `OPERATORS`, each with a number that chooses its inputs and settings.
    """
    builder = _Builder(seed)
    for operator, choice in steps:
        builder.step(operator, choice)
    return builder.model()


class _Builder:
    """A random graph: each step reads tensors of four dimensions that exist already."""

    def __init__(self, seed: int) -> None:
        self.generator = np.random.default_rng(seed)
        self.nodes: List[onnx.NodeProto] = []
        self.constants: Dict[str, np.ndarray] = {}
        self.shapes: Dict[str, Tuple[int, int]] = {}
        self.nodes.append(helper.make_node("Cast", ["image"], ["cast"], "cast", to=TensorProto.FLOAT))
        self.nodes.append(helper.make_node("Transpose", ["cast"], ["planes"], "planes", perm=[0, 3, 1, 2]))
        scale = self.constant()
        self.constants[scale] = np.float32(1 / 64)
        self.add("Mul", ["planes", scale], 3, 8)

    def constant(self, *shape: int, scale: float = 0.3) -> str:
        name = f"constant{len(self.constants)}"
        self.constants[name] = (scale * self.generator.standard_normal(shape)).astype(np.float32)
        return name

    def integers(self, *values: int) -> str:
        name = f"constant{len(self.constants)}"
        self.constants[name] = np.asarray(values, np.int64)
        return name

    def add(self, operator: str, inputs: List[str], channels: int, side: int, **attributes: Any) -> str:
        name = f"{operator}{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [f"{name}.out"], name, **attributes))
        self.shapes[f"{name}.out"] = (channels, side)
        return f"{name}.out"

    def step(self, operator: str, choice: int) -> None:
        names = list(self.shapes)
        x = names[choice % len(names)]
        channels, side = self.shapes[x]
        same = [name for name in names if self.shapes[name] == (channels, side)]
        other = same[choice // 7 % len(same)]
        if operator == "Conv":
            group = channels if choice % 3 == 0 else 1
            out = channels if group > 1 else 4 + choice % 3
            inputs = [x, self.constant(out, channels // group, 3, 3), self.constant(out)]
            self.add("Conv", inputs, out, side, kernel_shape=[3, 3], pads=[1] * 4, group=group)
        elif operator == "ConvTranspose":
            self.add(
                operator,
                [x, self.constant(channels, 4, 2, 2)],
                4,
                2 * side,
                kernel_shape=[2, 2],
                strides=[2, 2],
            )
        elif operator in ("Add", "Mul", "Sub", "Max"):
            self.add(operator, [x, other], channels, side)
        elif operator == "Concat":
            self.add(operator, [x, other], 2 * channels, side, axis=1)
        elif operator in ("MaxPool", "AveragePool") and side > 1:
            self.add(operator, [x], channels, side // 2, kernel_shape=[2, 2], strides=[2, 2])
        elif operator == "Resize":
            scales = self.constant(4)
            self.constants[scales] = np.asarray([1, 1, 2, 2], np.float32)
            self.add(
                operator, [x, "", scales], channels, 2 * side, mode="linear" if choice % 2 else "nearest"
            )
        elif operator == "Gate":
            pooled = self.add("GlobalAveragePool", [x], channels, 1)
            gate = self.add("Sigmoid", [pooled], channels, 1)
            self.add("Mul", [x, gate], channels, side)
        elif operator == "BatchNormalization":
            values = [self.constant(channels) for _ in range(3)]
            variance = self.constant(channels)
            self.constants[variance] = np.abs(self.constants[variance]) + np.float32(0.5)
            self.add(operator, [x, *values, variance], channels, side)
        elif operator == "Clip":
            low, high = self.constant(), self.constant()
            self.constants[low], self.constants[high] = np.float32(-(choice % 2)), np.float32(6)
            self.add(operator, [x, low, high], channels, side)
        elif operator == "Pad" and side > 2:
            mode = ["constant", "reflect", "edge"][choice % 3]
            self.add(operator, [x, self.integers(0, 0, 1, 1, 0, 0, 1, 1)], channels, side + 2, mode=mode)
        elif operator == "Transpose":
            y = self.add(operator, [x], channels, side, perm=[0, 2, 3, 1])
            product = self.add("MatMul", [y, self.constant(channels, channels)], channels, side)
            self.add(operator, [product], channels, side, perm=[0, 3, 1, 2])
            for name in (y, product):
                del self.shapes[name]
        elif operator in ("Relu", "LeakyRelu", "HardSwish", "Tanh", "Elu", "Softplus", "Erf"):
            self.add(operator, [x], channels, side)

    def model(self) -> onnx.ModelProto:
        last = list(self.shapes)[-1]
        total = self.add("ReduceMean", [last], 1, 1, axes=[1], keepdims=0)
        self.nodes.append(helper.make_node("Identity", [total], ["anomaly_map"], "map"))
        self.nodes.append(
            helper.make_node("ReduceMax", [total], ["anomaly_score"], "score", axes=[1, 2], keepdims=0)
        )
        graph = helper.make_graph(
            self.nodes, "random",
            [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", 8, 8, 3])],
            [helper.make_tensor_value_info("anomaly_map", TensorProto.FLOAT, ["N", None, None]),
             helper.make_tensor_value_info("anomaly_score", TensorProto.FLOAT, ["N"])],
            [numpy_helper.from_array(np.asarray(value), name) for name, value in self.constants.items()],
        )  # fmt: skip
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        return run_passes(model, pipelines.EXPORT)
