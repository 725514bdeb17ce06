"""Weights stored in float16: half the file for the same speed, where a CPU has no float16 convolution.

Each weight is followed by a Cast to float32, which runtimes fold when they load the file; activations and
scoring stay float32. So do biases, which are few and cost the anomaly map 6 dB in float16, and weights beyond
float16's range, of which trained networks have none.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

_SMALLEST = 64
"""Tensors with fewer elements stay as they are: constants of the scoring, shapes."""
_BIAS_DIMENSIONS = 1


def store_weights_as_float16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of a float32 model whose weights are stored in float16."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    casts = []
    for tensor in copy.graph.initializer:
        value = numpy_helper.to_array(tensor)
        if (
            value.dtype != np.float32
            or value.size < _SMALLEST
            or value.ndim <= _BIAS_DIMENSIONS
            or np.abs(value).max() > np.finfo(np.float16).max
        ):
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(value.astype(np.float16), f"{name}.float16"))
        casts.append(
            helper.make_node("Cast", [f"{name}.float16"], [name], f"{name}.Cast", to=onnx.TensorProto.FLOAT)
        )
    nodes = [*casts, *copy.graph.node]
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    onnx.checker.check_model(copy)
    return copy
