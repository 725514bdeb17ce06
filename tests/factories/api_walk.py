# ruff: noqa: N815 - ast.NodeVisitor finds methods by the names of nodes
"""A walk over a syntax tree that knows which releases of TensorRT reach a statement.

A small abstract interpreter. `release.at_least`, `release.before`, `release.is_rtx` and `hasattr` of
something of TensorRT narrow the releases, with `not`, `and`, `or`, `assert`, branches and early ends.
"""

from __future__ import annotations

import ast
import collections
from typing import Dict, List, Mapping, Optional, Sequence, Set, Tuple

from factories.api_kinds import Kind, Package, by_name, instance, last_word
from factories.api_matrix import RTX, ApiMatrix, Releases
from factories.api_uses import Uses

Names = Dict[str, Optional[Kind]]
_NONE: Releases = frozenset()


class Flow(ast.NodeVisitor):
    """Conditions and statements: which releases get where. Visiting an expression returns its kind, if known.

    Attributes:
        uses: the uses of TensorRT's members that were met.
        named: the releases that reach the places where a private function is named.
    """

    def __init__(
        self, matrix: ApiMatrix, package: Package, file: str, reached: Mapping[str, Releases]
    ) -> None:
        self.uses = Uses(matrix, package, file)
        self.named: Dict[str, Set[str]] = collections.defaultdict(set)
        self._matrix, self._package, self._reached = matrix, package, reached
        self._reach = matrix.releases
        self._names: Names = {}
        self._breaks: List[Releases] = []
        self._self: Optional[Kind] = None
        """The kind of `self` in the methods of the class that is walked."""

    def _split(self, test: ast.expr) -> Tuple[Releases, Releases]:
        """Visit a condition; return the releases where it can be true, and where it can be false."""
        reach = self._reach
        if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            yes, no = self._split(test.operand)
            return no, yes
        if isinstance(test, ast.BoolOp):
            is_and, decided = isinstance(test.op, ast.And), _NONE
            for value in test.values:
                yes, no = self._split(value)
                self._reach, decided = (yes, decided | no) if is_and else (no, decided | yes)
            undecided, self._reach = self._reach, reach
            return (undecided, decided) if is_and else (decided, undecided)
        known = self._answer(test)
        if known is not None:
            return reach & known, reach - known
        self.visit(test)
        constant = test.value if isinstance(test, ast.Constant) else None
        return (_NONE if constant is False else reach), (_NONE if constant is True else reach)

    def _answer(self, test: ast.expr) -> Optional[Releases]:
        """Return the releases of which a question is true; None where it is not one about the release."""
        if isinstance(test, ast.Attribute) and test.attr == "is_rtx":
            return frozenset({RTX})
        if not isinstance(test, ast.Call):
            return None
        question, values = last_word(test.func), [getattr(argument, "value", None) for argument in test.args]
        if question in ("at_least", "before") and all(isinstance(value, int) for value in values):
            since = self._matrix.since(*values)
            return since if question == "at_least" else self._matrix.releases - since
        if question == "hasattr" and isinstance(values[1], str):
            kind = self.visit(test.args[0])
            return (
                self.uses.having(test, kind, values[1]) if kind is not None and kind.is_of_tensorrt else None
            )
        return None

    def _block(self, body: Sequence[ast.stmt], reach: Releases) -> Tuple[Releases, Names]:
        """Visit statements; return the releases that come out below them, and the names as they are there."""
        names, self._names, self._reach = self._names, dict(self._names), reach
        for statement in body:
            self.visit(statement)
        after, self._names = self._names, names
        return self._reach, after

    def _join(self, *ends: Tuple[Releases, Names]) -> None:
        """Go on from where several blocks end."""
        self._reach = _NONE.union(*(reach for reach, _ in ends))
        first, *rest = [names for reach, names in ends if reach] or [self._names]
        self._names = {n: k if all(o.get(n) == k for o in rest) else by_name(n) for n, k in first.items()}

    def visit_If(self, node: ast.If) -> None:
        yes, no = self._split(node.test)
        self._join(self._block(node.body, yes), self._block(node.orelse, no))

    def visit_Assert(self, node: ast.Assert) -> None:
        holds, fails = self._split(node.test)
        if node.msg is not None:
            self._reach = fails
            self.visit(node.msg)
        self._reach = holds

    def visit_While(self, node: ast.While) -> None:
        self._loop(node, *self._split(node.test))

    def visit_For(self, node: ast.For) -> None:
        self._iterate(node)
        self._loop(node, self._reach, self._reach)

    def _iterate(self, node: ast.AST) -> None:
        """Bind what a loop or a comprehension runs over."""
        kind = self.visit(node.iter)
        is_network = kind is not None and kind.names == ("INetworkDefinition",)
        self._bind(node.target, instance("ILayer") if is_network else kind and kind.element)

    def _loop(self, node: ast.AST, enter: Releases, leave: Releases) -> None:
        self._breaks.append(_NONE)
        body, below = self._block(node.body, enter), self._block(node.orelse, leave)
        self._join(body, below)
        self._reach = below[0] | self._breaks.pop()

    def visit_Break(self, node: ast.Break) -> None:
        self._breaks[-1] |= self._reach
        self._reach = _NONE

    def _end(self, node: ast.AST) -> None:
        self.generic_visit(node)
        self._reach = _NONE

    visit_Continue = visit_Return = visit_Raise = _end

    def visit_Try(self, node: ast.Try) -> None:
        reach = self._reach
        ends = [self._block([*node.body, *node.orelse], reach)]
        for handler in node.handlers:
            self._reach = reach
            if handler.type is not None:
                self.visit(handler.type)
            ends.append(self._block(handler.body, reach))
        self._block(node.finalbody, reach)
        self._join(*ends)

    def visit_With(self, node: ast.With) -> None:
        reach, swallows = self._reach, False
        for item in node.items:
            kind = self.visit(item.context_expr)
            if item.optional_vars is not None:
                self._bind(item.optional_vars, kind)
            swallows |= (
                isinstance(item.context_expr, ast.Call) and last_word(item.context_expr.func) == "suppress"
            )
        self._join(self._block(node.body, reach), *([(reach, self._names)] if swallows else []))
