"""The thresholds of another tool, in the units of the raw map and score."""

from __future__ import annotations

from typing import Dict, Optional, Sequence

from adq_edge.onnx_import.metadata import ToolMetadata
from adq_edge.onnx_import.outputs import FoundOutputs
from adq_edge.onnx_import.postprocessing import Postprocessing, scalar_input
from adq_edge.quantization.graph.editor import GraphEditor


def find_numbers(
    editor: GraphEditor,
    names: Dict[str, str],
    outputs: FoundOutputs,
    posts: Sequence[Optional[Postprocessing]],
    metadata: Optional[ToolMetadata],
) -> Dict[str, float]:
    """Return the tool's thresholds in raw units, and the numbers of its metadata file.

    Args:
        editor: the graph.
        names: the outputs by their names in the file.
        outputs: the map and the score.
        posts: the post-processing of the map and of the score.
        metadata: the content of the tool's metadata file.
    """
    found: Dict[str, float] = {}
    for role, name, post in zip(("map", "score"), (outputs.map, outputs.score), posts):
        threshold = None if name is None else _find_threshold(editor, names[name])
        raw = None if threshold is None or post is None else post.raw_value(threshold)
        if raw is not None:
            found[f"{role} threshold"] = raw
    return {**found, **({} if metadata is None else metadata.numbers)}


def _find_threshold(editor: GraphEditor, output: str) -> Optional[float]:
    """Return the constant with which an output is compared for the label or mask; None if there is none."""
    for node in editor.consumers.get(output, []):
        if node.op_type in ("Greater", "GreaterOrEqual") and node.input[0] == output:
            return scalar_input(editor, node, 1)
    return None
