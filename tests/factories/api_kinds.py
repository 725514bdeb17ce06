"""What an expression of our source stands for: told by annotations, by results known, by names agreed on."""

from __future__ import annotations

import ast
import collections
import dataclasses
import enum
from typing import Dict, Iterable, Optional, Sequence, Tuple


class What(enum.Enum):
    """The sort of thing."""

    MODULE = "the module of TensorRT"
    CLASS = "a class of TensorRT"
    INSTANCE = "an object of TensorRT"
    OURS = "anything else"


@dataclasses.dataclass(frozen=True)
class Kind:
    """What an expression stands for.

    Attributes:
        what: the sort of thing.
        names: the class; several where it is one of them; for ours the class, where known.
        element: what iterating over it gives, where known.
        parts: what a tuple of fixed length holds, where known.
    """

    what: What
    names: Tuple[str, ...] = ()
    element: Optional[Kind] = None
    parts: Tuple[Optional[Kind], ...] = ()

    @property
    def is_of_tensorrt(self) -> bool:
        """True for what has members that the tables list."""
        return self.what is not What.OURS


TRT = Kind(What.MODULE)
OURS = Kind(What.OURS)

NAMES = {
    "builder": "Builder",
    "network": "INetworkDefinition",
    "config": "IBuilderConfig",
    "parser": "OnnxParser",
    "engine": "ICudaEngine",
    "context": "IExecutionContext",
    "runtime": "Runtime",
    "layer": "ILayer",
    "tensor": "ITensor",
    "inspector": "EngineInspector",
    "profile": "IOptimizationProfile",
    "timing_cache": "ITimingCache",
    "plan": "IHostMemory",
    "trt_logger": "ILogger",
}
"""Names of variables, parameters and attributes, and what they hold where no annotation says otherwise."""

RESULTS = {
    ("Builder", "create_network"): "INetworkDefinition",
    ("Builder", "create_builder_config"): "IBuilderConfig",
    ("Builder", "create_optimization_profile"): "IOptimizationProfile",
    ("Builder", "build_serialized_network"): "IHostMemory",
    ("IBuilderConfig", "create_timing_cache"): "ITimingCache",
    ("IBuilderConfig", "get_timing_cache"): "ITimingCache",
    ("INetworkDefinition", "get_layer"): "ILayer",
    ("INetworkDefinition", "get_input"): "ITensor",
    ("INetworkDefinition", "get_output"): "ITensor",
    ("ILayer", "get_input"): "ITensor",
    ("ILayer", "get_output"): "ITensor",
    ("ILayer", "type"): "LayerType",
    ("ILayer", "precision"): "DataType",
    ("ITensor", "dtype"): "DataType",
    ("OnnxParser", "get_error"): "ParserError",
    ("Runtime", "deserialize_cuda_engine"): "ICudaEngine",
    ("ICudaEngine", "create_engine_inspector"): "EngineInspector",
    ("ICudaEngine", "create_execution_context"): "IExecutionContext",
    ("ICudaEngine", "get_tensor_dtype"): "DataType",
    ("ICudaEngine", "get_tensor_mode"): "TensorIOMode",
    ("ICudaEngine", "serialize"): "IHostMemory",
    ("IExecutionContext", "engine"): "ICudaEngine",
    ("ITimingCache", "serialize"): "IHostMemory",
}
"""What members hold or return."""

_SEQUENCES = frozenset(
    (
        *("List", "Tuple", "Set", "FrozenSet", "Deque", "Sequence", "Collection"),
        *("Iterable", "Iterator", "Generator"),
    )
)


def instance(name: str) -> Kind:
    """Return the kind of an object of a class of TensorRT."""
    return Kind(What.INSTANCE, (name,))


def by_name(name: str) -> Optional[Kind]:
    """Return what a name stands for by agreement; None for other names."""
    name = name.lstrip("_")
    if name == "trt":
        return TRT
    return instance(NAMES[name]) if name in NAMES else None


def by_annotation(annotation: Optional[ast.expr], name: str) -> Optional[Kind]:
    """Return what an annotated name stands for; where the annotation says nothing, its name does."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        annotation = ast.parse(annotation.value, mode="eval").body
    word = last_word(annotation)
    if word in (None, "Any"):
        return by_name(name)
    if isinstance(annotation, ast.Subscript):
        inner = index_of(annotation)
        if word == "Optional":
            return by_annotation(inner, name)
        parts = inner.elts if isinstance(inner, ast.Tuple) else [inner]
        kinds = tuple(by_annotation(part, "") for part in parts)
        if word == "Tuple" and last_word(parts[-1]) != "Ellipsis":
            return Kind(What.OURS, parts=kinds)
        return Kind(What.OURS, element=kinds[0]) if word in _SEQUENCES else OURS
    return Kind(What.OURS, (word or "",))


def index_of(node: ast.Subscript) -> ast.expr:
    """Return what stands in the brackets, which Python 3.8 wraps."""
    return node.slice.value if type(node.slice).__name__ == "Index" else node.slice


def one_of(kinds: Sequence[Optional[Kind]]) -> Optional[Kind]:
    """Return the kind of what is one of some things, a class for each where they differ; None if unknown."""
    if not kinds or None in kinds:
        return None
    if len({kind.what for kind in kinds}) > 1 or (len(set(kinds)) > 1 and not kinds[0].names):
        return None
    return Kind(kinds[0].what, tuple(dict.fromkeys(name for kind in kinds for name in kind.names)))


def last_word(node: Optional[ast.AST]) -> Optional[str]:
    """Return the last identifier of a name, an attribute or what is subscripted; None where there is none."""
    if isinstance(node, ast.Subscript):
        return last_word(node.value)
    if isinstance(node, ast.Attribute):
        return node.attr
    if isinstance(node, ast.Constant):
        return type(node.value).__name__ if node.value is not Ellipsis else "Ellipsis"
    return node.id if isinstance(node, ast.Name) else None


class Package:
    """What the sources declare.

    Attributes:
        fields: for each class, what its attributes, properties and methods (their results) are.
        results: what functions return; those of one name with different results are left out.
        attributes: all names that classes of ours give to attributes.
    """

    def __init__(self, trees: Iterable[ast.Module]) -> None:
        self.fields: Dict[str, Dict[str, Optional[Kind]]] = collections.defaultdict(dict)
        self.results: Dict[str, Optional[Kind]] = {}
        for tree in trees:
            for node in ast.walk(tree):
                if isinstance(node, ast.ClassDef):
                    self._add_class(node)
                elif isinstance(node, ast.FunctionDef):
                    result = by_annotation(node.returns, node.name)
                    same = self.results.get(node.name, result) == result
                    self.results[node.name] = result if same else None
        self.attributes = frozenset(name for fields in self.fields.values() for name in fields)

    def _add_class(self, node: ast.ClassDef) -> None:
        fields = self.fields[node.name]
        for statement in node.body:
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                fields[statement.target.id] = by_annotation(statement.annotation, statement.target.id)
            elif isinstance(statement, ast.Assign):
                fields.update(
                    {target.id: OURS for target in statement.targets if isinstance(target, ast.Name)}
                )
            elif isinstance(statement, ast.FunctionDef):
                fields[statement.name] = by_annotation(statement.returns, statement.name)
        for method in (statement for statement in node.body if isinstance(statement, ast.FunctionDef)):
            parameters = {a.arg: by_annotation(a.annotation, a.arg) for a in method.args.args}
            for statement in ast.walk(method):
                for name, kind in _attributes_set(statement, parameters):
                    fields.setdefault(name, kind)


def _attributes_set(
    node: ast.AST, parameters: Dict[str, Optional[Kind]]
) -> Iterable[Tuple[str, Optional[Kind]]]:
    """Yield the attributes that a statement of a method gives to `self`."""
    if isinstance(node, ast.AnnAssign) and _is_of_self(node.target):
        yield node.target.attr, by_annotation(node.annotation, node.target.attr)
    elif isinstance(node, ast.Assign):
        for target in node.targets:
            if isinstance(target, ast.Tuple):
                yield from ((t.attr, by_name(t.attr)) for t in target.elts if _is_of_self(t))
            elif _is_of_self(target):
                yield target.attr, _of_value(node.value, target.attr, parameters)


def _of_value(value: ast.expr, name: str, parameters: Dict[str, Optional[Kind]]) -> Optional[Kind]:
    if isinstance(value, ast.Name) and value.id in parameters:
        return parameters[value.id] or by_name(name)
    made = last_word(value.func) if isinstance(value, ast.Call) else None
    if made is None or not made[0].isupper():
        return by_name(name)
    from_trt = isinstance(value.func, ast.Attribute) and by_name(last_word(value.func.value) or "") == TRT
    return instance(made) if from_trt else Kind(What.OURS, (made,))


def _is_of_self(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"
