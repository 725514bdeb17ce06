"""Stores weights in float16: half the file at the same speed, where a CPU has no float16 convolution.

A Cast to float32 follows each weight; runtimes fold it when they load the file. Activations and scoring stay
float32. So do biases, which are small and cost the anomaly map 6 dB in float16, and weights beyond float16's
range, which trained networks do not have.
"""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.passes.frame import PassContext

_SMALLEST = 64
"""Smaller tensors stay as they are: constants of the scoring, shapes."""
_BIAS_DIMENSIONS = 1


def store_weights_as_float16(editor: GraphEditor, context: PassContext) -> None:
    """Store each float32 weight in float16 with a Cast behind it."""
    for name in list(editor.initializers):
        value = editor.value(name)
        if (
            value.dtype == np.float32
            and value.size >= _SMALLEST
            and value.ndim > _BIAS_DIMENSIONS
            and np.abs(value).max() <= np.finfo(np.float16).max
        ):
            stored = editor.store(f"{name}.float16", value.astype(np.float16))
            del editor.initializers[name]
            editor.add("Cast", [stored], name, f"{name}.Cast", to=TensorProto.FLOAT)
