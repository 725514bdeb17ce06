"""Type stubs of TensorRT, one set for each release of the API matrix, and mypy on the adapter with them.

The stub of a release holds the members that the release has. The answers of `Release.before` and its like are
literal types there, so that mypy skips the branches that the release does not take.
"""

from __future__ import annotations

import ast
import collections
from pathlib import Path
from typing import Dict, Iterable, List, Tuple

from factories.api_matrix import MODULE, RTX, ApiMatrix, version_of
from factories.paths import DATA, REPOSITORY

ADAPTER = REPOSITORY / "adq_edge" / "runtimes" / "tensorrt"
_SIGNATURES = DATA / "tensorrt.pyi"
_HEAD = """# mypy: ignore-errors
from __future__ import annotations
from abc import abstractmethod
from typing import *
"""
_RELEASE = """
import tensorrt

class Release:
    trt: Module
    runtime: Any
    version: str
    is_rtx: {is_rtx}
    @overload
    def at_least(self, major: Literal[{older}], minor: int = 0) -> {yes}: ...
    @overload
    def at_least(self, major: Literal[{major}], minor: Literal[{minors}] = 0) -> {yes}: ...
    @overload
    def at_least(self, major: int, minor: int = 0) -> {no}: ...
    @overload
    def before(self, major: Literal[{older}], minor: int = 0) -> {no}: ...
    @overload
    def before(self, major: Literal[{major}], minor: Literal[{minors}] = 0) -> {no}: ...
    @overload
    def before(self, major: int, minor: int = 0) -> {yes}: ...

def load_release(runtime: Any = ...) -> Release: ...
def __getattr__(name: str) -> Any: ...

class Module:
"""
_CONFIG = """[mypy]
mypy_path = {stubs}
follow_imports = skip
ignore_missing_imports = True
check_untyped_defs = True
warn_unreachable = True
[mypy-numpy.*]
follow_imports = skip
follow_imports_for_stubs = True
"""


def check(
    api: ApiMatrix, release: str, sources: Iterable[Path], folder: Path, guarded: bool = True
) -> List[str]:
    """Return what mypy reports on sources with the stubs of a release, as `file:line: error: message`.

    Args:
        api: the releases that have each member.
        release: a column of it.
        sources: files, those of the adapter among them.
        folder: receives the stubs and keeps mypy's cache.
        guarded: False to check as if the adapter had no branches by release.
    """
    from mypy import api as mypy

    stubs = folder / f"{release}{'' if guarded else '-unguarded'}"
    stubs.mkdir(parents=True, exist_ok=True)
    module, adapter, config = stubs / "tensorrt.pyi", stubs / "release.pyi", stubs / "mypy.ini"
    module.write_text(module_stub(api, release))
    adapter.write_text(release_stub(api, release, guarded))
    config.write_text(_CONFIG.format(stubs=stubs))
    options = ["--config-file", str(config), "--cache-dir", str(folder / "cache"), "--no-error-summary"]
    shadow = ["--shadow-file", str(ADAPTER / "release.py"), str(adapter)]
    out, problems, _ = mypy.run([*options, *shadow, *map(str, sources)])
    assert not problems, problems
    return [line for line in out.splitlines() if ": error: " in line]


def module_stub(api: ApiMatrix, release: str) -> str:
    """Return a stub of the module `tensorrt`; a class that the release lacks cannot be constructed in it."""
    bases, known = signatures()
    lines = [_HEAD, *known[MODULE].values()]
    for owner in dict.fromkeys([*bases, *api.members]):
        if owner != MODULE and "." not in owner:
            lines.append(f"class {owner}({bases.get(owner, '')}):")
            if release in (api.having(MODULE, owner) or api.releases):
                lines += _members(api, release, owner, known[owner])
            else:
                lines.append("    def __init__(self, *, is_not_in_this_release: Never) -> None: ...")
    return "\n".join(lines)


def _members(api: ApiMatrix, release: str, owner: str, known: Dict[str, str]) -> List[str]:
    is_enumeration = api.is_enumeration(owner)
    lines = ["    name: str" if is_enumeration else "    ..."]
    listed = api.members.get(owner, {})
    for name in dict.fromkeys([*known, *(name for name in listed if not name.endswith("="))]):
        if name not in listed or release in api.having(owner, name):
            text = known.get(name, f"    {name}: {owner if is_enumeration else 'Any'}")
            is_variable = not is_enumeration and "def " not in text
            if is_variable and release not in (api.assignable(owner, name) or api.releases):
                text = f"    @property\n    def {name}(self) -> {text.split(': ')[1]}: ..."
            lines.append(text)
    return lines


def release_stub(api: ApiMatrix, release: str, guarded: bool = True) -> str:
    """Return a stub of the adapter's `release` module, whose answers are those of one release."""
    major, minor = version_of(release)
    text = _RELEASE.format(
        major=major,
        older=", ".join(map(str, range(major))),
        minors=", ".join(map(str, range(minor + 1))),
        yes="Literal[True]" if guarded else "bool",
        no="Literal[False]" if guarded else "bool",
        is_rtx=f"Literal[{release == RTX}]" if guarded else "bool",
    )
    own = signatures()[1][MODULE]
    members = [name for name in api.members[MODULE] if release in api.having(MODULE, name)]
    others = {**dict.fromkeys(members, "Any"), **dict.fromkeys(own, "tensorrt.DataType")}
    lines = [
        f"    {name}: {f'Type[tensorrt.{name}]' if api.is_class(name) else kind}"
        for name, kind in others.items()
    ]
    return "\n".join([_HEAD, text, *lines])


def signatures() -> Tuple[Dict[str, str], Dict[str, Dict[str, str]]]:
    """Return the base of each class, and the declarations by class and member."""
    text = _SIGNATURES.read_text(encoding="utf-8")
    bases: Dict[str, str] = {}
    members: Dict[str, Dict[str, str]] = collections.defaultdict(dict)
    lines = text.splitlines()
    for node in ast.parse(text).body:
        if isinstance(node, ast.ClassDef):
            bases[node.name] = ", ".join(base.id for base in node.bases if isinstance(base, ast.Name))
        body, owner = (node.body, node.name) if isinstance(node, ast.ClassDef) else ([node], MODULE)
        for member in body:
            name = getattr(member, "name", None) or getattr(getattr(member, "target", None), "id", None)
            if name is not None:
                first = min([member.lineno, *(d.lineno for d in getattr(member, "decorator_list", ()))])
                members[owner][name] = "\n".join(lines[first - 1 : member.end_lineno])
    return bases, members
