"""Recognizes a path that was given in place of an engine; names the command that makes an engine from it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import NamedTuple, Optional

from adq_edge.artifacts.bundle import CHECKPOINT_SUFFIXES, MANIFEST_FILE, MODEL_FILE, RANGES_FOLDER
from adq_edge.artifacts.content_kinds import LFS_POINTER, name_content, read_start
from adq_edge.artifacts.workspace import SIDECAR_SUFFIX

_SCHEMA = re.compile(rb'\s*{\s*"schema": "(adq-edge/[a-z-]{1,30})"')
_NAME_ENGINE = "Name an engine file"


class OtherFile(NamedTuple):
    """The kind of a path that is no engine, such as "an image", and the remedy."""

    kind: str
    fix: str

    @property
    def what(self) -> str:
        """The message."""
        return f"{self.kind}, not an engine"


def describe_non_engine(path: Path) -> Optional[OtherFile]:
    """Return the kind of a path that is certainly no engine; None if it may be one, or is missing."""
    if path.is_dir():
        return _describe_folder(path)
    if not path.exists() or path.with_name(path.name + SIDECAR_SUFFIX).is_file():
        return None
    if not path.is_file():
        return OtherFile("a device, pipe or socket", _NAME_ENGINE)
    suffix = path.suffix.lower()
    if path.name == MODEL_FILE and (path.parent / MANIFEST_FILE).is_file():
        return OtherFile("the model of a bundle", _build(path.parent))
    if suffix == ".json" or _read_schema(path) is not None:
        return _describe_json(path)
    if suffix in CHECKPOINT_SUFFIXES or _is_checkpoint(path):
        fix = f"Make an engine from it: adq-edge export {shlex.quote(str(path))}, then adq-edge build"
        return OtherFile("a checkpoint", fix)
    kind = name_content(path)
    fix = "Fetch the file that it stands for: git lfs pull" if kind == LFS_POINTER else _NAME_ENGINE
    return None if kind is None else OtherFile(kind, fix)


def describe_file(path: Path) -> Optional[str]:
    """Return the kind of a path, such as "an engine"; None if it is unknown or missing."""
    if path.is_file() and path.with_name(path.name + SIDECAR_SUFFIX).is_file():
        return "an engine"
    other = describe_non_engine(path)
    return None if other is None else other.kind


def _build(bundle: Path) -> str:
    return f"Make an engine from it: adq-edge build {shlex.quote(str(bundle))}"


def _describe_folder(path: Path) -> OtherFile:
    if (path / MANIFEST_FILE).is_file():
        return OtherFile("a bundle", _build(path))
    return OtherFile("a folder", _NAME_ENGINE)


def _describe_json(path: Path) -> OtherFile:
    engine = path.with_suffix("")
    schema = _read_schema(path)
    if path.name == MANIFEST_FILE and (path.parent / MODEL_FILE).is_file():
        return OtherFile("the manifest of a bundle", _build(path.parent))
    if schema == "adq-edge/engine":
        return OtherFile("the sidecar of an engine", f"Name the engine: {engine}")
    if schema == "adq-edge/ranges":
        bundle = path.parent.parent if path.parent.name == RANGES_FOLDER else Path("BUNDLE")
        fix = f"Make an engine from its bundle: adq-edge build {shlex.quote(str(bundle))} --int8"
        return OtherFile("activation ranges", fix)
    if schema == "adq-edge/plan":
        fix = f"Make an engine with it: adq-edge build BUNDLE --plan {shlex.quote(str(path))}"
        return OtherFile("a precision plan", fix)
    if schema == "adq-edge/products":
        return OtherFile("the products of an engine", f"Name the engine: {engine}")
    if schema is not None:
        return OtherFile(f"a result file ({schema})", _NAME_ENGINE)
    return OtherFile("a JSON file", _NAME_ENGINE)


def _read_schema(path: Path) -> Optional[str]:
    """Return the schema name of a JSON file of adq-edge; it is the file's first field."""
    match = _SCHEMA.match(read_start(path))
    return None if match is None else match.group(1).decode("ascii")


def _is_checkpoint(path: Path) -> bool:
    """Return True for a file in the archive format of torch.save, whatever its suffix."""
    start = read_start(path)
    return start.startswith(b"PK\x03\x04") and b"/data.pkl" in start
