"""Forms of a Q/DQ graph that `benchmarks/rtx_kernels.py` compiles, as graph passes on an INT8 graph."""

from __future__ import annotations

from typing import Dict, List, Tuple

import ml_dtypes
import numpy as np
import onnx

from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.passes.frame import PassContext
from adq_edge.quantization.passes.opset import lift_opset

MAIN_OUTPUTS = ("anomaly_map", "anomaly_score")
_LARGEST_FP8, _LARGEST_INT8 = 448, 127


def weight_pairs(editor: GraphEditor) -> List[Tuple[onnx.NodeProto, onnx.NodeProto, onnx.NodeProto]]:
    """Return the integer convolutions with the Q and the DQ node of their weights."""
    found = []
    for node in editor.of_type("Conv"):
        made = editor.producers.get(node.input[1])
        if made is not None and made.op_type == "DequantizeLinear":
            found.append((node, editor.producers[made.input[0]], made))
    return found


def activation_pairs(editor: GraphEditor) -> List[Tuple[onnx.NodeProto, onnx.NodeProto]]:
    """Return the Q and the DQ nodes of activations."""
    return [
        (node, editor.consumers[node.output[0]][0])
        for node in editor.of_type("QuantizeLinear")
        if node.input[0] not in editor.initializers
    ]


def round_to_one_scale(editor: GraphEditor, context: PassContext) -> None:
    """Round each weight again, to a grid with one scale."""
    for _, quantize, made in weight_pairs(editor):
        values = editor.value(quantize.input[0])
        editor.store(quantize.input[1], np.asarray(np.abs(values).max() / 127, np.float32))
        editor.store(quantize.input[2], np.asarray(0, np.int8))
        for node in (quantize, made):
            del node.attribute[:]


def store_integers(editor: GraphEditor, context: PassContext) -> None:
    """Store weights as integers, without Q nodes."""
    for _, quantize, made in weight_pairs(editor):
        values, scales = (editor.value(name) for name in quantize.input[:2])
        levels = np.rint(values / scales.reshape(-1, *[1] * (values.ndim - 1))).astype(np.int8)
        integers = editor.store(f"{quantize.input[0]}.integers", levels)
        editor.rewire(made, [integers, *made.input[1:]])


def without_additions(editor: GraphEditor, context: PassContext) -> None:
    """Remove the pairs of residual additions."""
    for quantize, made in activation_pairs(editor):
        if editor.consumers[made.output[0]][0].op_type == "Add":
            editor.redirect(made.output[0], quantize.input[0])
            editor.remove(quantize, made)


def pairs_on_both_branches(editor: GraphEditor, context: PassContext) -> None:
    """Round also the main branch of residual additions, with the scale of the skip branch."""
    for quantize, made in activation_pairs(editor):
        addition = editor.consumers[made.output[0]][0]
        if addition.op_type == "Add":
            other = next(name for name in addition.input if name != made.output[0])
            scale, zero_point = (editor.value(name) for name in quantize.input[1:])
            editor.rewire(addition, [editor.add_pair(other, scale, zero_point), made.output[0]])


def pairs_before_activations(editor: GraphEditor, context: PassContext) -> None:
    """Round the outputs of convolutions before their ReLU, with the scale of the pair behind it."""
    for quantize, made in activation_pairs(editor):
        relu = editor.producers.get(quantize.input[0])
        if relu is not None and relu.op_type == "Relu" and editor.producers[relu.input[0]].op_type == "Conv":
            scale, zero_point = (editor.value(name) for name in quantize.input[1:])
            editor.redirect(made.output[0], relu.output[0])
            editor.remove(quantize, made)
            editor.rewire(relu, [editor.add_pair(relu.input[0], scale, zero_point)])


def clip_for_relu(editor: GraphEditor, context: PassContext) -> None:
    """Replace each ReLU before a pair by a Clip to the range of the pair."""
    for quantize, _ in activation_pairs(editor):
        relu = editor.producers.get(quantize.input[0])
        if relu is not None and relu.op_type == "Relu":
            top = editor.value(quantize.input[1]) * 127
            limits = [
                editor.store(f"{relu.name}.{end}", np.float32(v)) for end, v in (("low", 0), ("top", top))
            ]
            editor.remove(relu)
            editor.add("Clip", [relu.input[0], *limits], relu.output[0], relu.name)


def main_outputs(editor: GraphEditor, context: PassContext) -> None:
    """Leave out the embedding and the scale maps."""
    editor.results = [value for value in editor.results if value.name in MAIN_OUTPUTS]
    editor.outputs = [value.name for value in editor.results]


def group_convolutions(editor: GraphEditor, context: PassContext) -> None:
    """Compute each layer of the teacher and of the student as one convolution of two groups."""
    channels = {name: shape[1] for name, shape in editor.shapes().items() if len(shape) == 4}
    Grouping(editor, channels).run()


class Grouping:
    """The rewrite of an STFPM to grouped convolutions.

    Attributes:
        joined: the tensor with the channels of the teacher and of the student, by the teacher's tensor.
        ratios: scale of the student divided by the one of the teacher, by joined tensor of a pair.
    """

    def __init__(self, editor: GraphEditor, channels: Dict[str, int]) -> None:
        self._editor, self._channels = editor, channels
        self.joined: Dict[str, str] = {}
        self.ratios: Dict[str, float] = {}

    def run(self) -> None:
        """Join each node of the teacher with the student's, then split what the scoring reads."""
        editor = self._editor
        for node in list(editor.nodes):
            weights = node.op_type in ("QuantizeLinear", "DequantizeLinear") and "weight" in node.input[0]
            if node.name.startswith("/teacher") and not weights:
                twin = editor.producers[student(node.output[0])]
                self.joined[node.output[0]] = getattr(self, f"_{node.op_type}", self._other)(node, twin)
        for tensor, joined in list(self.joined.items()):
            count = self._channels.get(tensor, 0)
            for name, start in ((tensor, 0), (student(tensor), count)):
                networks = ("/teacher", "/student", "/both")
                outside = [n for n in editor.consumers.get(name, []) if not n.name.startswith(networks)]
                if outside:
                    ends = [
                        editor.store(f"{name}.{end}", np.asarray([value], np.int64))
                        for end, value in (("start", start), ("stop", start + count), ("axis", 1))
                    ]
                    part = editor.add("Slice", [joined, *ends], f"{name}.part", f"{name}.Slice")
                    editor.redirect(name, part, outside)

    def _Conv(self, node: onnx.NodeProto, twin: onnx.NodeProto) -> str:  # noqa: N802 - the operator's name
        editor, source = self._editor, self.joined.get(node.input[0])
        bias = np.concatenate([editor.value(item.input[2]) for item in (node, twin)])
        name = both(node.input[2]).replace(".bias", ".kernel")
        if node.input[1] in editor.initializers:
            values = [editor.value(item.input[1]) for item in (node, twin)]
            kernel = editor.store(name, np.concatenate(values))
        else:
            ratio = self.ratios[source or ""]
            pairs = [editor.producers[editor.producers[item.input[1]].input[0]] for item in (node, twin)]
            factors = (1.0, ratio)
            values = [editor.value(q.input[0]) * np.float32(f) for q, f in zip(pairs, factors)]
            scales = np.concatenate(
                [editor.value(q.input[1]) * np.float32(f) for q, f in zip(pairs, factors)]
            )
            stored = editor.store(name, np.concatenate(values))
            kernel = editor.add_pair(stored, scales, np.zeros(len(scales), np.int8), axis=0)
        inputs = [source or node.input[0], kernel, editor.store(both(node.input[2]), bias)]
        kept = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
        kept["group"] = 1 if source is None else 2
        return editor.add("Conv", inputs, both(node.output[0]), both(node.name), **kept)

    def _QuantizeLinear(self, node: onnx.NodeProto, twin: onnx.NodeProto) -> str:  # noqa: N802
        editor, output = self._editor, both(node.output[0])
        own, other = (editor.value(item.input[1]) for item in (node, twin))
        scaled = self._scale(self.joined[node.input[0]], node.input[0], float(own / other), output)
        self.ratios[output] = float(other / own)
        return editor.add("QuantizeLinear", [scaled, *node.input[1:]], output, both(node.name))

    def _DequantizeLinear(self, node: onnx.NodeProto, twin: onnx.NodeProto) -> str:  # noqa: N802
        output, source = both(node.output[0]), self.joined[node.input[0]]
        self.ratios[output] = self.ratios[source]
        return self._editor.add("DequantizeLinear", [source, *node.input[1:]], output, both(node.name))

    def _Add(self, node: onnx.NodeProto, twin: onnx.NodeProto) -> str:  # noqa: N802
        inputs = []
        for name in node.input:
            joined = self.joined[name]
            ratio = self.ratios.get(joined)
            inputs.append(joined if ratio is None else self._scale(joined, name, ratio, f"{joined}.own"))
        return self._editor.add("Add", inputs, both(node.output[0]), both(node.name))

    def _other(self, node: onnx.NodeProto, twin: onnx.NodeProto) -> str:
        editor, inputs = self._editor, [self.joined[node.input[0]]]
        for own, other in zip(node.input[1:], twin.input[1:]):  # factors of the equalization
            factors = np.concatenate([editor.value(own), editor.value(other)], axis=1)
            inputs.append(editor.store(both(own), factors))
        return editor.add_copy(node, both(node.name), inputs, both(node.output[0]))

    def _scale(self, joined: str, tensor: str, factor: float, stem: str) -> str:
        """Multiply the channels of the student."""
        count = self._channels[tensor]
        factors = np.repeat(np.asarray([1.0, factor], np.float32), count).reshape(1, -1, 1, 1)
        stored = self._editor.store(f"{stem}.factors", factors)
        return self._editor.add("Mul", [joined, stored], f"{stem}.scaled", f"{both(stem)}.Mul")


def student(name: str) -> str:
    """Return the student's name of a tensor of the teacher."""
    return name.replace("/teacher", "/student")


def both(name: str) -> str:
    """Return the name of the joined tensor of a tensor of the teacher."""
    return name.replace("/teacher", "/both")


def in_fp8(editor: GraphEditor, context: PassContext) -> None:
    """Round to FP8 (E4M3) instead of integers."""
    lift_opset(editor)
    for name in {node.input[1] for node in editor.of_type("QuantizeLinear")}:
        scales = editor.value(name) * np.float32(_LARGEST_INT8 / _LARGEST_FP8)
        editor.store(name, np.asarray(scales, np.float32))
    for name in {node.input[2] for node in editor.of_type("QuantizeLinear")}:
        editor.store(name, editor.value(name).astype(ml_dtypes.float8_e4m3fn))
