"""Computes embeddings in float32: the same function, for OpenVINO.

OpenVINO moves the dequantization of a mean's input behind the mean. The scoring, which reads the same
features, is then dequantized by other operators and rounds differently. A maximum with the lowest float32
number changes no value, and OpenVINO moves nothing past it.
"""

from __future__ import annotations

import numpy as np

from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.passes.frame import PassContext

_LOWEST = np.float32(np.finfo(np.float32).min)


def keep_means_float(editor: GraphEditor, context: PassContext) -> None:
    """Insert a maximum with the lowest number before each mean."""
    for node in editor.of_type("ReduceMean"):
        inputs = [node.input[0], editor.store(f"{node.name}.lowest", _LOWEST)]
        kept = editor.add("Max", inputs, f"{node.name}.float", f"{node.name}.Max")
        editor.rewire(node, [kept, *node.input[1:]])
