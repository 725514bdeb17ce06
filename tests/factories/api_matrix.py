"""The members that each release of TensorRT has, from two tables and the TensorRT-RTX that is installed."""

from __future__ import annotations

import dataclasses
import importlib
import re
from pathlib import Path
from typing import Any, Dict, FrozenSet, Optional, Tuple

from factories.paths import DATA

MATRIX = DATA / "trt_api_matrix.txt"
ADDITIONS = DATA / "trt_api_additions.txt"

MODULE = "tensorrt"
"""The owner of the names in the module itself."""
RTX = "rtx"
_RTX_INTERFACE = "v11.0"
_HEADER = re.compile(r"^## (\S+)(?: present in (\[.*\]))?")
_ROW = re.compile(r"^  ([Y.]{9,10}) (\S+)$")

Releases = FrozenSet[str]
Members = Dict[str, Dict[str, Releases]]


@dataclasses.dataclass(frozen=True)
class ApiMatrix:
    """The releases that have each member.

    Attributes:
        columns: the releases, oldest first, and last TensorRT-RTX.
        members: releases by member, by class; `MODULE` holds the names in the module. The entry `name=` holds
            the releases where the member can be assigned to, if fewer than can read it.
        rtx: the real TensorRT-RTX, which overrides the tables; None if it is not installed.
    """

    columns: Tuple[str, ...]
    members: Members
    rtx: Optional[Any]

    @property
    def releases(self) -> Releases:
        """All releases."""
        return frozenset(self.columns)

    def is_class(self, name: str) -> bool:
        """Return True if the name is that of a class."""
        return name != MODULE and (name in self.members or isinstance(_find(self.rtx, name), type))

    def is_enumeration(self, name: str) -> bool:
        """Return True if the members of a class are its instances."""
        listed = self.members.get(name)
        return all(m.isupper() for m in listed) if listed else hasattr(_find(self.rtx, name), "__members__")

    def having(self, owner: str, member: str) -> Optional[Releases]:
        """Return the releases where a class has a member; None for a member of no release."""
        listed = self.members.get(owner, {}).get(member)
        if self.rtx is None:
            return listed
        found = _find(self.rtx, *_path(owner), member) is not None
        if listed is None and not found:
            return None
        return (listed or frozenset()) - {RTX} | (frozenset({RTX}) if found else frozenset())

    def assignable(self, owner: str, member: str) -> Optional[Releases]:
        """Return the releases where a member can be assigned to; None for a member of no release."""
        having = self.having(owner, member)
        if having is None:
            return None
        real = _find(self.rtx, *_path(owner), member)
        read_only = {RTX} if real is not None and getattr(real, "fset", None) is None else set()
        return having & self.members.get(owner, {}).get(f"{member}=", self.releases) - read_only


def read_matrix() -> ApiMatrix:
    """Read both tables; the additions override the matrix, and the module `tensorrt_rtx` overrides both."""
    columns, members = read_table(MATRIX)
    _, additions = read_table(ADDITIONS, columns)
    for owner, rows in additions.items():
        members.setdefault(owner, {}).update(rows)
    try:
        rtx = importlib.import_module("tensorrt_rtx")
    except ImportError:
        rtx = None
    return ApiMatrix(columns, members, rtx)


def read_table(path: Path, columns: Tuple[str, ...] = ()) -> Tuple[Tuple[str, ...], Members]:
    """Return the columns, which the first header of the matrix names, and the rows of a table."""
    members: Members = {MODULE: {}}
    owner = MODULE
    for line in path.read_text(encoding="utf-8").splitlines():
        header, row = _HEADER.match(line), _ROW.match(line)
        if header is not None:
            owner = header.group(1)
            members.setdefault(owner, {})
            if header.group(2):
                present = re.findall(r"'(\S+?)'", header.group(2))
                columns = columns or (*present, RTX)
                members[MODULE][owner] = _with_rtx(frozenset(present))
        elif row is not None:
            marked = frozenset(column for column, mark in zip(columns, row.group(1)) if mark == "Y")
            members[owner][row.group(2)] = marked if len(row.group(1)) == len(columns) else _with_rtx(marked)
        elif line and not line.startswith("#"):
            raise ValueError(f"{path.name}: not a row: {line!r}")
    return columns, members


def version_of(release: str) -> Tuple[int, int]:
    """Return major and minor number of a release's interface."""
    major, minor = (_RTX_INTERFACE if release == RTX else release).lstrip("v").split(".")[:2]
    return int(major), int(minor)


def _with_rtx(releases: Releases) -> Releases:
    """Add TensorRT-RTX, which the matrix lacks, with the members of the release that it follows."""
    return releases | {RTX} if _RTX_INTERFACE in releases else releases


def _path(owner: str) -> Tuple[str, ...]:
    return () if owner == MODULE else tuple(owner.split("."))


def _find(root: Optional[Any], *path: str) -> Optional[Any]:
    for name in path:
        root = getattr(root, name, None)
    return root
