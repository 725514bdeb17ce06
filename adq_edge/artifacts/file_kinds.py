"""Recognizes a path that was given in place of an engine; names the command that makes an engine from it."""

from __future__ import annotations

import contextlib
import re
import shlex
from pathlib import Path
from typing import NamedTuple, Optional

from adq_edge.artifacts.bundle import CHECKPOINT_SUFFIXES, MANIFEST_FILE, MODEL_FILE, RANGES_FOLDER
from adq_edge.artifacts.workspace import SIDECAR_SUFFIX
from adq_edge.core.images.folders import IMAGE_SUFFIXES

_SCHEMA = re.compile(rb'\s*{\s*"schema": "(adq-edge/[a-z-]{1,30})"')
_START = 256
"""Number of bytes at the start of a file that name its kind."""


class OtherFile(NamedTuple):
    """The kind of a path that is no engine, as a message, and the remedy."""

    what: str
    fix: str


def describe_non_engine(path: Path) -> Optional[OtherFile]:
    """Return the kind of a path that is certainly no engine; None if it may be one, or is missing."""
    if path.is_dir():
        return _describe_folder(path)
    if not path.is_file() or path.with_name(path.name + SIDECAR_SUFFIX).is_file():
        return None
    suffix = path.suffix.lower()
    if path.name == MODEL_FILE and (path.parent / MANIFEST_FILE).is_file():
        return OtherFile("the model of a bundle, not an engine", _build(path.parent))
    if suffix == ".json":
        return _describe_json(path)
    if suffix in CHECKPOINT_SUFFIXES or _is_checkpoint(path):
        fix = f"Make an engine from it: adq-edge export {shlex.quote(str(path))}, then adq-edge build"
        return OtherFile("a checkpoint, not an engine", fix)
    if suffix in IMAGE_SUFFIXES:
        return OtherFile("an image, not an engine", "Name an engine file")
    return None


def _build(bundle: Path) -> str:
    return f"Make an engine from it: adq-edge build {shlex.quote(str(bundle))}"


def _describe_folder(path: Path) -> OtherFile:
    if (path / MANIFEST_FILE).is_file():
        return OtherFile("a bundle, not an engine", _build(path))
    return OtherFile("a folder, not an engine", "Name an engine file")


def _describe_json(path: Path) -> OtherFile:
    engine = path.with_suffix("")
    schema = _read_schema(path)
    if path.name == MANIFEST_FILE and (path.parent / MODEL_FILE).is_file():
        return OtherFile("the manifest of a bundle, not an engine", _build(path.parent))
    if schema == "adq-edge/engine":
        return OtherFile("the sidecar of an engine, not an engine", f"Name the engine: {engine}")
    if schema == "adq-edge/ranges":
        bundle = path.parent.parent if path.parent.name == RANGES_FOLDER else Path("BUNDLE")
        fix = f"Make an engine from its bundle: adq-edge build {shlex.quote(str(bundle))} --int8"
        return OtherFile("activation ranges, not an engine", fix)
    if schema == "adq-edge/plan":
        fix = f"Make an engine with it: adq-edge build BUNDLE --plan {shlex.quote(str(path))}"
        return OtherFile("a precision plan, not an engine", fix)
    if schema is not None:
        return OtherFile(f"a result file ({schema}), not an engine", "Name an engine file")
    return OtherFile("a JSON file, not an engine", "Name an engine file")


def _read_schema(path: Path) -> Optional[str]:
    """Return the schema name of a JSON file of adq-edge; it is the file's first field."""
    match = _SCHEMA.match(_read_start(path))
    return None if match is None else match.group(1).decode("ascii")


def _is_checkpoint(path: Path) -> bool:
    """Return True for a file in the archive format of torch.save, whatever its suffix."""
    start = _read_start(path)
    return start.startswith(b"PK\x03\x04") and b"/data.pkl" in start


def _read_start(path: Path) -> bytes:
    with contextlib.suppress(OSError), path.open("rb") as file:
        return file.read(_START)
    return b""
