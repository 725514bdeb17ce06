"""Removes Identity nodes, by which the exporter shares equal weights."""

from __future__ import annotations

from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.passes.frame import PassContext


def drop_identities(editor: GraphEditor, context: PassContext) -> None:
    """Let the readers of each Identity read its input."""
    for node in editor.of_type("Identity"):
        if node.output[0] not in editor.outputs:
            editor.bypass(node)
