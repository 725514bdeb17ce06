"""Stores weights in float16, for CPUs without float16 convolutions: half the file size, the same speed.

A Cast to float32 follows each weight; runtimes fold it when they load the file. Activations and scoring stay
float32. Biases stay float32 too: they are small, and float16 would cost the anomaly map 6 dB. So do weights
beyond float16's range, but trained networks have none. Constants of the scoring stay float32 as well:
memory banks, covariances, principal components.
"""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.passes.frame import PassContext
from adq_edge.quantization.region import region_of

_SMALLEST = 64
"""Smaller tensors stay as they are: constants of the scoring, shapes."""
_BIAS_DIMENSIONS = 1


def store_weights_as_float16(editor: GraphEditor, context: PassContext) -> None:
    """Store each float32 weight in float16 followed by a Cast."""
    steps = region_of(editor, context.region).steps
    weights = {name for step in steps for name in step.node.input}
    for name in list(editor.initializers):
        value = editor.value(name)
        if (
            value.dtype == np.float32
            and value.size >= _SMALLEST
            and value.ndim > _BIAS_DIMENSIONS
            and np.abs(value).max() <= np.finfo(np.float16).max
            and (name in weights or _interpolates(value))
        ):
            stored = editor.store(f"{name}.float16", value.astype(np.float16))
            del editor.initializers[name]
            editor.add("Cast", [stored], name, f"{name}.Cast", to=TensorProto.FLOAT)


def _interpolates(value: np.ndarray) -> bool:
    """Return True for a matrix that enlarges maps: its rows or columns are weights of averages."""
    sums = (value.sum(axis) for axis in range(value.ndim))
    return bool((value >= 0).all() and any(np.allclose(total, 1.0) for total in sums))
