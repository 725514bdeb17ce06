"""Inputs of a model beside the image, such as a threshold or the size of the image before its resizing.

A value that the user states becomes a constant. An input without a value is allowed as long as neither the
map nor the score depends on it.
"""

from __future__ import annotations

import math
from typing import Dict, Iterable, Mapping, Sequence, Set, Tuple

import numpy as np
import onnx
from onnx import helper, numpy_helper

from adq_edge.artifacts.tensors import Tensors, TensorType
from adq_edge.core.errors import ForeignModelError
from adq_edge.onnx_import.names import name_in_file
from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.graph.model_file import input_types

_NUMBERS: Dict[str, np.dtype] = {
    "float": np.dtype(np.float32),
    "double": np.dtype(np.float64),
    **{kind: np.dtype(kind) for kind in ("float16", "int8", "int16", "int32", "int64", "bool")},
    **{kind: np.dtype(kind) for kind in ("uint8", "uint16", "uint32", "uint64")},
}
"""Types of inputs to which values can be stated, by their names in ONNX."""
_MOST_VALUES = 4096
"""Largest number of values of an input that one number fills."""


def with_constants(model: onnx.ModelProto, constants: Mapping[str, Tuple[float, ...]]) -> onnx.ModelProto:
    """Return a copy of a model in which inputs are constants; the model itself without any.

    Args:
        model: the model.
        constants: values by the name of the input: one for all elements, or all of them.

    Raises:
        ForeignModelError: no input has the name, or the values do not fit its shape or type.
    """
    if not constants:
        return model
    inputs = input_types(model)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for name, values in constants.items():
        if name not in inputs:
            known = ", ".join(f"{other} {kind}" for other, kind in inputs.items()) or "none"
            raise ForeignModelError(f"has no input {name!r}; its inputs: {known}", fix="Give one of them")
        item = next(item for item in copy.graph.input if item.name == name)
        copy.graph.input.remove(item)
        array = _in_type(name, inputs[name], _fill(name, inputs[name], values))
        copy.graph.initializer.append(numpy_helper.from_array(array, name))
    return copy


def _in_type(name: str, found: TensorType, values: np.ndarray) -> np.ndarray:
    """Return values in the type of an input; integers and Booleans must hold them exactly."""
    kind = _NUMBERS.get(found.kind)
    if kind is None:
        raise ForeignModelError(
            f"--input {name} has numbers; the input is {found}", fix="Export the model without this input"
        )
    with np.errstate(invalid="ignore"):
        array = values.astype(kind)
    if not np.issubdtype(kind, np.floating) and (array.astype(np.float64) != values).any():
        raise ForeignModelError(
            f"--input {name} has a value that {found.kind} cannot hold; the input is {found}",
            fix=f"Give values of {found.kind}",
        )
    return array


def _fill(name: str, found: TensorType, values: Tuple[float, ...]) -> np.ndarray:
    """Return the values in the shape of an input; an axis that is not fixed has one element."""
    shape = [size if size and size > 0 else 1 for size in found.shape or ()]
    count = math.prod(shape)
    if len(values) == 1 and count <= _MOST_VALUES:
        return np.full(shape, values[0])
    if len(values) != count:
        raise ForeignModelError(
            f"--input {name} has {len(values)} values; the input is {found}", fix=f"Give one value or {count}"
        )
    return np.asarray(values, np.float64).reshape(shape)


def fix_further_inputs(inputs: Iterable[onnx.ValueInfoProto], batch: int) -> None:
    """Declare fixed shapes of inputs: the first axis has the images unless fixed, others one element."""
    for item in inputs:
        for position, size in enumerate(item.type.tensor_type.shape.dim):
            if not size.HasField("dim_value") or size.dim_value < 1:
                size.dim_value = batch if position == 0 else 1


def require_independence(editor: GraphEditor, inputs: Tensors, tensors: Sequence[str]) -> None:
    """Check that tensors depend on no input but the first, the image.

    Args:
        editor: the graph.
        inputs: the types of the inputs in the file.
        tensors: the tensors.

    Raises:
        ForeignModelError: one does; the message names the input and the option with its value.
    """
    further = {item.name for item in editor.inputs[1:]}
    needed = sorted(map(name_in_file, further & _tensors_behind(editor, tensors))) if further else []
    if needed:
        names = ", ".join(f"{name} {inputs[name]}" for name in needed)
        raise ForeignModelError(
            f"its map or score depends on further inputs: {names}",
            fix=f"State the value: --input {needed[0]}=VALUE",
        )


def _tensors_behind(editor: GraphEditor, tensors: Sequence[str]) -> Set[str]:
    """Return tensors and all that they are computed from."""
    waiting = list(tensors)
    found = set(waiting)
    while waiting:
        node = editor.producers.get(waiting.pop())
        if node is not None:
            waiting.extend(name for name in node.input if name not in found)
            found.update(node.input)
    return found


def placeholders(inputs: Tensors, batch: int) -> Dict[str, np.ndarray]:
    """Return values for inputs on which neither map nor score depends: ones of their types and shapes."""
    found = {}
    for name, (kind, shape) in inputs.items():
        sizes = [
            size if size and size > 0 else (batch if position == 0 else 1)
            for position, size in enumerate(shape or ())
        ]
        number = getattr(onnx.TensorProto, kind.upper(), onnx.TensorProto.FLOAT)
        found[name] = np.ones(sizes, helper.tensor_dtype_to_np_dtype(number))
    return found
