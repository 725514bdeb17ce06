from __future__ import annotations

import numpy as np
from onnx import TensorProto

from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.passes.constant_folding import fold_constants
from adq_edge.quantization.passes.frame import PassContext
from factories.foreign_models import GraphWriter
from factories.limits import little_memory


def test_large_results_of_small_constants_are_left_to_the_runtime():
    writer = GraphWriter()
    column = np.zeros((2**17, 1), np.float32)
    large = [writer.add("Add", column, column.T), writer.add("Range", *map(np.array, (0.0, 2.0**36, 1.0)))]
    small = writer.add("Add", column, np.float32(1))
    sums = [writer.add("ReduceMin", tensor, keepdims=0) for tensor in (*large, small)]
    writer.add("Sum", "x", writer.add("Cast", sums[1], to=TensorProto.FLOAT), sums[0], sums[2], output="y")
    editor = GraphEditor(writer.model({"x": [1]}, {"y": [1]}))
    with little_memory():
        fold_constants(editor, PassContext())
    assert set(large) <= set(editor.producers)
    assert small not in editor.producers
