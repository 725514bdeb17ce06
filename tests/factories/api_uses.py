"""Holds uses of TensorRT's members, and subclasses of its classes, against the releases that get there."""

from __future__ import annotations

import ast
import collections
import dataclasses
from typing import Counter, List, Tuple

from factories.api_kinds import Kind, Package, What, last_word
from factories.api_matrix import MODULE, ApiMatrix, Releases

_CALIBRATOR = ("get_batch_size", "get_batch", "read_calibration_cache", "write_calibration_cache")
_PURE_VIRTUAL = {
    "IInt8EntropyCalibrator": _CALIBRATOR,
    "IInt8EntropyCalibrator2": _CALIBRATOR,
    "IInt8MinMaxCalibrator": _CALIBRATOR,
    "IInt8LegacyCalibrator": (
        *(*_CALIBRATOR, "get_quantile", "get_regression_cutoff"),
        *("read_histogram_cache", "write_histogram_cache"),
    ),
    "ILogger": ("log",),
    "IProfiler": ("report_layer_time",),
    "IProgressMonitor": ("phase_start", "step_complete", "phase_finish"),
}
"""What a subclass must define."""


@dataclasses.dataclass(frozen=True, order=True)
class Fault:
    """A use that would fail.

    Attributes:
        file: the source.
        line: where in it.
        text: what is wrong.
        releases: where it fails; none for what is wrong everywhere.
    """

    file: str
    line: int
    text: str
    releases: Tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text} {', '.join(self.releases)}".rstrip()


class Uses:
    """The uses in one source.

    Attributes:
        faults: those that would fail.
        counts: how often each `Class.member` is used.
    """

    def __init__(self, matrix: ApiMatrix, package: Package, file: str) -> None:
        self.faults: List[Fault] = []
        self.counts: Counter[str] = collections.Counter()
        self._matrix, self._package, self._file = matrix, package, file

    def having(self, node: ast.AST, kind: Kind, member: str) -> Releases:
        """Return the releases where every class of a kind has a member; an unknown member is a fault."""
        owners = (MODULE,) if kind.what is What.MODULE else kind.names
        everywhere = self._matrix.releases
        for owner in owners:
            self.counts[f"{owner}.{member}"] += 1
            releases = self._matrix.having(owner, member)
            if releases is None:
                self.fault(node, f"{owner}.{member} is in no table and no module")
            else:
                everywhere &= releases
        return everywhere

    def use(self, node: ast.AST, kind: Kind, member: str, reach: Releases) -> None:
        """Hold a use of a member of TensorRT against the releases that reach it."""
        owner = MODULE if kind.what is What.MODULE else " or ".join(kind.names)
        having = self.having(node, kind, member)
        if not reach:
            self.fault(node, f"{owner}.{member} stands where no release gets")
        elif reach - having:
            self.fault(node, f"{owner}.{member} is not in", reach - having)
        elif isinstance(getattr(node, "ctx", None), ast.Store):
            for name in kind.names:
                assignable = self._matrix.assignable(name, member)
                if assignable is not None and reach - assignable:
                    self.fault(node, f"{name}.{member} cannot be assigned to in", reach - assignable)

    def use_of_unknown(self, node: ast.AST, member: str, reach: Releases) -> None:
        """Hold a member of who knows what against the releases, if no class of ours has one of that name."""
        releases = self._matrix.of_any_class(member)
        if releases is not None and member not in self._package.attributes and reach - releases:
            self.fault(node, f"{member}, of whatever class, is not in", reach - releases)

    def subclass(self, node: ast.ClassDef, base: ast.expr, kind: Kind) -> None:
        """Check that a subclass of a class of TensorRT calls its constructor and overrides what is there."""
        methods = {
            statement.name: statement for statement in node.body if isinstance(statement, ast.FunctionDef)
        }
        owner = " or ".join(kind.names)
        known = {member for name in kind.names for member in self._matrix.members.get(name, ())}
        for name, method in methods.items():
            if not name.startswith("_") and name not in known:
                self.fault(method, f"{node.name}.{name} overrides nothing of {owner}")
        for name in kind.names:
            for member in _PURE_VIRTUAL.get(name, ()):
                if member not in methods:
                    self.fault(node, f"{node.name} must define {member} of {name}")
        constructor = methods.get("__init__")
        if constructor is not None and not any(_constructs(step, base) for step in constructor.body):
            self.fault(constructor, f"{node.name}.__init__ does not call {owner}.__init__(self)")

    def fault(self, node: ast.AST, text: str, releases: Releases = frozenset()) -> None:
        """Note a fault."""
        self.faults.append(Fault(self._file, node.lineno, text, tuple(self._matrix.sorted(releases))))


def _constructs(statement: ast.stmt, base: ast.expr) -> bool:
    """Return True if a statement is `base.__init__(self)`, which it must be without any condition."""
    call = statement.value if isinstance(statement, ast.Expr) else None
    return (
        isinstance(call, ast.Call)
        and last_word(call.func) == "__init__"
        and ast.dump(call.func.value) == ast.dump(base)
        and [last_word(argument) for argument in call.args[:1]] == ["self"]
    )
