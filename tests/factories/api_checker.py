# ruff: noqa: N802, N815 - ast.NodeVisitor finds methods by the names of nodes
"""Holds each member of TensorRT that a source uses against the releases that can reach the place.

A private function is reached by what reaches the places that name it, any other function by every release.
The names agreed on (`engine`, `layer` and so on) hold in sources that name `trt` or `Release`.
"""

from __future__ import annotations

import ast
import builtins
import collections
import dataclasses
from typing import Dict, Iterable, Mapping, Optional, Set, Tuple

from factories.api_kinds import (
    OURS,
    RESULTS,
    TRT,
    Kind,
    Package,
    What,
    by_annotation,
    by_name,
    index_of,
    instance,
    last_word,
    one_of,
)
from factories.api_matrix import ApiMatrix, Releases
from factories.api_uses import Fault
from factories.api_walk import Flow

_MODULES = frozenset({"tensorrt", "tensorrt_rtx"})
_SAME_ELEMENTS = frozenset({"frozenset", "iter", "list", "reversed", "set", "sorted", "tuple"})
_DYNAMIC = frozenset({"__dict__", "__getattribute__", "__members__"})
_NUMBER_FORMATS = ("bool", "bfloat16", "float16", "float32", "fp8", "int4", "int8", "int32", "int64", "uint8")


@dataclasses.dataclass(frozen=True)
class Check:
    """What a walk over sources found: faults, sorted, and how often each `Class.member` is used."""

    faults: Tuple[Fault, ...]
    uses: Mapping[str, int]


def check(matrix: ApiMatrix, sources: Mapping[str, str], others: Iterable[str] = ()) -> Check:
    """Check sources, by the names that faults are to tell; `others` only declare classes and functions."""
    trees = {name: ast.parse(text) for name, text in sources.items()}
    package = Package([*trees.values(), *map(ast.parse, others)])
    reached: Dict[str, Releases] = dict.fromkeys(_named_private_functions(trees.values()), frozenset())
    while True:  # until no more releases are seen to reach a private function
        walks = {name: _Walk(matrix, package, name, reached) for name in trees}
        for name, walk in walks.items():
            walk.visit(trees[name])
        seen = {name: frozenset().union(*(walk.named[name] for walk in walks.values())) for name in reached}
        if seen == reached:
            faults = {fault for walk in walks.values() for fault in walk.uses.faults}
            counts = sum((walk.uses.counts for walk in walks.values()), collections.Counter())
            return Check(tuple(sorted(faults)), counts)
        reached = seen


def _named_private_functions(trees: Iterable[ast.Module]) -> Set[str]:
    """Return the private functions, and methods of classes without a base, that some expression names."""
    defined: Set[str] = set()
    named: Set[Optional[str]] = set()
    for tree in trees:
        classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and not node.bases]
        for scope in (tree, *classes):
            defined |= {node.name for node in scope.body if isinstance(node, ast.FunctionDef)}
        named |= {last_word(node) for node in ast.walk(tree) if isinstance(node, (ast.Name, ast.Attribute))}
    return {name for name in defined & named if name.startswith("_") and not name.startswith("__")}


def speaks_of_tensorrt(tree: ast.AST) -> bool:
    """Return True if a source names the module or its release."""
    return any(last_word(node) in ("trt", "Release") for node in ast.walk(tree))


class _Walk(Flow):
    """Expressions, and what gives names to things."""

    def visit_Module(self, node: ast.Module) -> None:
        self._speaks = speaks_of_tensorrt(node)
        self.generic_visit(node)

    def _believed(self, kind: Optional[Kind]) -> Optional[Kind]:
        return kind if self._speaks or kind is None or not kind.is_of_tensorrt else None

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            kind = TRT if alias.name in _MODULES else OURS
            self._names[alias.asname or alias.name.split(".")[0]] = kind

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        self._names.update({alias.asname or alias.name: OURS for alias in node.names})

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        for expression in (*node.decorator_list, *node.args.defaults, *filter(None, node.args.kw_defaults)):
            self.visit(expression)
        self._names[node.name] = OURS
        reach = self._reach
        names, self._names = self._names, {**self._names, **self._parameters(node.args)}
        self._block(node.body, reach & self._reached.get(node.name, reach))
        self._reach, self._names = reach, names

    def _parameters(self, arguments: ast.arguments) -> Dict[str, Optional[Kind]]:
        listed = [*getattr(arguments, "posonlyargs", []), *arguments.args, *arguments.kwonlyargs]
        kinds = {argument.arg: by_annotation(argument.annotation, argument.arg) for argument in listed}
        if self._self is not None and "self" in kinds:
            kinds["self"] = self._self
        kinds.update({star.arg: OURS for star in (arguments.vararg, arguments.kwarg) if star is not None})
        return kinds

    def visit_Lambda(self, node: ast.Lambda) -> Kind:
        names, self._names = self._names, {**self._names, **self._parameters(node.args)}
        self.visit(node.body)
        self._names = names
        return OURS

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for base in node.bases:
            kind = self.visit(base)
            if kind is not None and kind.is_of_tensorrt:
                self.uses.subclass(node, base, kind)
        self._names[node.name] = OURS
        outer, outer_self, self._self = self._names, self._self, Kind(What.OURS, (node.name,))
        for statement in node.body:  # methods do not see the names of the class
            self._names = dict(outer)
            self.visit(statement)
        self._names, self._self = outer, outer_self

    def visit_Assign(self, node: ast.Assign) -> None:
        kind = self.visit(node.value)
        for target in node.targets:
            self._bind(target, kind)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        kind = None if node.value is None else self.visit(node.value)
        self._bind(node.target, by_annotation(node.annotation, last_word(node.target) or "") or kind)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> Optional[Kind]:
        kind = self.visit(node.value)
        self._bind(node.target, kind)
        return kind

    def _bind(self, target: ast.expr, kind: Optional[Kind]) -> None:
        """Give a kind to a target; a name whose kind is not known holds what is agreed on."""
        if isinstance(target, ast.Name):
            self._names[target.id] = kind or by_name(target.id)
        elif isinstance(target, (ast.Tuple, ast.List)):
            size = len(target.elts)
            fits = kind is not None and len(kind.parts) == size
            for element, part in zip(target.elts, kind.parts if fits else [kind and kind.element] * size):
                self._bind(element, part)
        else:
            self.visit(target)

    def visit_Name(self, node: ast.Name) -> Optional[Kind]:
        self._note_named(node.id)
        return self._believed(self._names[node.id] if node.id in self._names else by_name(node.id))

    def _note_named(self, name: str) -> None:
        if name in self._reached:
            self.named[name] |= self._reach

    def visit_Attribute(self, node: ast.Attribute) -> Optional[Kind]:
        kind = self.visit(node.value)
        self._note_named(node.attr)
        if node.attr == "trt":
            return TRT
        if kind is None:
            self.uses.use_of_unknown(node, node.attr, self._reach)
            return self._believed(by_name(node.attr))
        if kind.is_of_tensorrt:
            if node.attr in _DYNAMIC:
                self.uses.fault(node, f"{node.attr} of something of TensorRT cannot be checked")
            elif not node.attr.startswith("__"):
                self.uses.use(node, kind, node.attr, self._reach)
            return self._member(kind, node.attr)
        fields = self._package.fields.get(kind.names[0], {}) if kind.names else {}
        return self._believed(fields.get(node.attr, OURS))

    def _member(self, kind: Kind, member: str) -> Optional[Kind]:
        """Return what a member of something of TensorRT is, or returns when called."""
        if kind.what is What.MODULE:
            if member in _NUMBER_FORMATS:
                return instance("DataType")
            return Kind(What.CLASS, (member,)) if self._matrix.is_class(member) else None
        if kind.what is What.INSTANCE:
            result = RESULTS.get((kind.names[0], member))
            return None if result is None else instance(result)
        inner = f"{kind.names[0]}.{member}"
        if self._matrix.is_class(inner):
            return Kind(What.CLASS, (inner,))
        return instance(kind.names[0]) if self._matrix.is_enumeration(kind.names[0]) else None

    def visit_Call(self, node: ast.Call) -> Optional[Kind]:
        word = node.func.id if isinstance(node.func, ast.Name) else ""
        if word == "hasattr" and self._answer(node) is not None:
            return OURS
        kind = self.visit(node.func)
        arguments = [self.visit(argument) for argument in node.args]
        for keyword in node.keywords:
            self.visit(keyword.value)
        first = arguments[0] if arguments else None
        if word in ("getattr", "setattr") and first is not None and first.is_of_tensorrt:
            return self._by_string(node, first)
        if kind is not None and kind.is_of_tensorrt:
            return Kind(What.INSTANCE, kind.names) if kind.what is What.CLASS else kind
        if word in vars(builtins) and word not in self._names:
            return Kind(What.OURS, element=first and first.element) if word in _SAME_ELEMENTS else OURS
        if (last_word(node.func) or "")[:1].isupper():
            return Kind(What.OURS, (last_word(node.func),))
        return self._package.results.get(word) if word else kind if kind != OURS else None

    def _by_string(self, node: ast.Call, kind: Kind) -> Optional[Kind]:
        """Check `getattr`; with a default, or a name that is made at run time, nothing can be said."""
        name = node.args[1].value if isinstance(node.args[1], ast.Constant) else None
        if name is None or node.func.id == "setattr":
            self.uses.fault(node, f"{node.func.id} of something of TensorRT cannot be checked")
            return None
        if len(node.args) == 2:
            self.uses.use(node, kind, name, self._reach)
        else:
            self.uses.having(node, kind, name)
        return self._member(kind, name)

    def visit_Subscript(self, node: ast.Subscript) -> Optional[Kind]:
        kind = self.visit(node.value)
        self.visit(node.slice)
        if kind is None or isinstance(node.slice, ast.Slice):
            return kind
        if kind.names == ("INetworkDefinition",):
            return instance("ILayer")
        index = getattr(index_of(node), "value", None)
        is_part = isinstance(index, int) and index < len(kind.parts)
        return kind.parts[index] if is_part else kind.element

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        self._split(node)

    def visit_IfExp(self, node: ast.IfExp) -> Optional[Kind]:
        reach, (yes, no) = self._reach, self._split(node.test)
        kinds = []
        for branch, self._reach in ((node.body, yes), (node.orelse, no)):
            kind = self.visit(branch)
            kinds += [] if isinstance(branch, ast.Constant) and branch.value is None else [kind]
        self._reach = reach
        return one_of(kinds)

    def _comprehension(self, node: ast.AST) -> Kind:
        names, self._names, reach = self._names, dict(self._names), self._reach
        for generator in node.generators:
            self._iterate(generator)
            for test in generator.ifs:
                self._reach, _ = self._split(test)
        parts = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        kinds = [self.visit(part) for part in parts]
        self._names, self._reach = names, reach
        return Kind(What.OURS, element=kinds[-1])

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _comprehension

    def _display(self, node: ast.AST) -> Kind:
        kinds = [self.visit(element) for element in node.elts]
        parts = tuple(kinds) if isinstance(node, ast.Tuple) else ()
        return Kind(What.OURS, element=one_of(kinds), parts=parts)

    visit_List = visit_Tuple = visit_Set = _display

    def visit_Dict(self, node: ast.Dict) -> Kind:
        for key in filter(None, node.keys):
            self.visit(key)
        return Kind(What.OURS, element=one_of([self.visit(value) for value in node.values]))

    def visit_Starred(self, node: ast.Starred) -> Optional[Kind]:
        kind = self.visit(node.value)
        return kind and kind.element

    def visit_Constant(self, node: ast.Constant) -> Optional[Kind]:
        return None if node.value is None else OURS

    def _plain(self, node: ast.AST) -> Kind:
        self.generic_visit(node)
        return OURS

    visit_BinOp = visit_Compare = visit_JoinedStr = _plain
