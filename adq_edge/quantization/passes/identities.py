"""Removes Identity nodes, which the exporter adds to share equal weights."""

from __future__ import annotations

from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.passes.frame import PassContext


def drop_identities(editor: GraphEditor, context: PassContext) -> None:
    """Replace the output of each Identity by its input."""
    for node in editor.of_type("Identity"):
        if node.output[0] not in editor.outputs:
            editor.bypass(node)
