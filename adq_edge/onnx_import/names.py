"""Names of nodes and tensors: of the contract of bundles, of the file, and of modules."""

from __future__ import annotations

import re
from typing import List, Optional

import onnx

from adq_edge.artifacts.bundle import EMBEDDING_OUTPUT, INPUT, MAP_OUTPUT, SCORE_OUTPUT
from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.network_layers import WEIGHTED

_RESERVED = (INPUT, MAP_OUTPUT, SCORE_OUTPUT, EMBEDDING_OUTPUT)
_RENAMED = ".original"
"""Suffix of the name of a tensor in the file that has a name of the contract."""
_SEPARATORS = frozenset("./")
"""Letters that separate modules in a name."""
_SCOPES = "pkg.torch.onnx.name_scopes"


def reserve_names(editor: GraphEditor) -> None:
    """Rename the tensors of a graph that have a name of the contract of bundles."""
    taken = {name for name in _RESERVED if name in editor.producers or name in editor.initializers}
    taken.update(item.name for item in editor.inputs if item.name in _RESERVED)
    if not taken:
        return
    renamed = {name: name + _RENAMED for name in taken}
    nodes: List[onnx.NodeProto] = editor.nodes
    for node in nodes:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.input[:] = [renamed.get(name, name) for name in node.input]
        copy.output[:] = [renamed.get(name, name) for name in node.output]
        editor.remove(node)
        editor.add_node(copy)
    for old, new in renamed.items():
        if old in editor.initializers:
            editor.store(new, editor.value(old))
            del editor.initializers[old]
    for item in (*editor.inputs, *editor.results):
        item.name = renamed.get(item.name, item.name)
    editor.outputs[:] = [renamed.get(name, name) for name in editor.outputs]


def name_in_file(tensor: str) -> str:
    """Return the name that a tensor has in the file."""
    return next((name for name in _RESERVED if tensor == name + _RENAMED), tensor)


def name_nodes(editor: GraphEditor) -> None:
    """Give every node a name of its own, as passes require; layers are named after their modules."""
    seen = set()
    for node in editor.nodes:
        name = _module(editor, node) or node.name or f"{node.output[0]}.{node.op_type}"
        while name in seen:
            name = f"{name}.{node.output[0]}"
        node.name = name
        seen.add(name)


def _module(editor: GraphEditor, node: onnx.NodeProto) -> Optional[str]:
    """Return the module of a layer, such as `backbone.layer1.conv1`; None if its own name has a path.

    The names of its weight and its bias give the module, or what torch notes at a node.
    """
    if node.op_type not in WEIGHTED or not _SEPARATORS.isdisjoint(node.name):
        return None
    readers = editor.consumers.get(node.output[0], [])
    sums = [reader for reader in readers if reader.op_type == "Add"]
    constants = [name for one in (node, *sums) for name in one.input if name in editor.initializers]
    paths = [name.rpartition(".")[0] for name in constants]
    return next((path for path in paths if path), None) or _noted_scope(node)


def _noted_scope(node: onnx.NodeProto) -> Optional[str]:
    """Return the module and operation that torch's exporter noted at a node, such as `encoder.linear_3`."""
    noted = next((item.value for item in node.metadata_props if item.key == _SCOPES), "")
    scopes = [scope for scope in re.findall(r"'([^']*)'", noted) if scope]
    return ".".join(scopes[-2:]) if len(scopes) > 1 else None
