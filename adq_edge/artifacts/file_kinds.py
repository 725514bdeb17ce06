"""Recognizes the files that verbs exchange, for messages that name the kind of a wrong file."""

from __future__ import annotations

import dataclasses
import enum
import itertools
import os
import re
from pathlib import Path
from shlex import quote
from typing import Callable, Iterator, List, Mapping, Optional

from adq_edge.artifacts.bundle import CHECKPOINT_SUFFIXES, MANIFEST_FILE, MODEL_FILE, RANGES_FOLDER
from adq_edge.artifacts.content_kinds import LFS_POINTER, name_content, read_start
from adq_edge.artifacts.workspace import SIDECAR_SUFFIX
from adq_edge.core.errors import EngineError
from adq_edge.core.storage import storage_errors
from adq_edge.core.text import command_line

_SCHEMA = re.compile(rb'\s*{\s*"schema": "(adq-edge/[a-z-]{1,30})"')
_RESULTS = ("analysis", "bench", "compare", "estimate", "eval", "stress", "submission")
SHOWN_BY_REPORT = frozenset(f"adq-edge/{name}" for name in _RESULTS)
"""The schemas of the result files that `report` shows."""
_TORCH_STARTS = (b"PK\x03\x04", b"\x80")
"""The first bytes of a file that torch.save wrote: of a ZIP archive, or of a pickle."""
ONNX_SUFFIX = ".onnx"
_MOST_NAMES = 2000
"""Number of entries of a folder that are looked at."""


class FileKind(enum.Enum):
    """The kinds of paths that verbs take or write; the value is the kind's name in a message."""

    ENGINE = "an engine"
    SIDECAR = "the sidecar of an engine"
    PRODUCTS = "the products of an engine"
    BUNDLE = "a bundle"
    MODEL = "the model of a bundle"
    MANIFEST = "the manifest of a bundle"
    RANGES = "activation ranges"
    PLAN = "a precision plan"
    CHECKPOINT = "a checkpoint"
    FOREIGN = "an ONNX model"
    RESULT = "a result file"
    IMAGE = "an image"
    JSON = "a JSON file"
    FOLDER = "a folder"
    OTHER = "a file of another kind"


@dataclasses.dataclass(frozen=True)
class KnownPath:
    """A path of a known kind.

    Attributes:
        kind: the kind.
        name: the kind's name in a message; it may say more than the kind, such as "a folder of bundles".
        fix: a sentence with the next command for such a path; None if no verb takes it.
    """

    kind: FileKind
    name: str
    fix: Optional[str] = None


def reject_other_kinds(path: Path) -> None:
    """Check that a path may be an engine; one that is missing is accepted.

    Raises:
        EngineError: the path is of another kind; the message names the kind and the next command.
        StorageError: the path cannot be accessed.
    """
    with storage_errors(path):
        known = describe_path(path)
    if known is None or known.kind is FileKind.ENGINE:
        return
    fix = f"Name the engine: {path.with_suffix('')}" if known.kind in BESIDE_ENGINE else known.fix
    raise EngineError(f"{known.name}, not an engine", where=path, fix=fix or "Name an engine file")


def describe_file(path: Path) -> Optional[str]:
    """Return the kind of a path, such as "an engine"; None if it is unknown or missing."""
    known = describe_path(path)
    return None if known is None else known.name


def describe_path(path: Path) -> Optional[KnownPath]:
    """Return the kind of a path; None if it is unknown or missing.

    Raises:
        OSError: the path is not possible, or cannot be accessed.
    """
    if path.is_dir():
        return _describe_folder(path)
    if not path.exists():
        return None
    if not path.is_file():
        return KnownPath(FileKind.OTHER, "a device, pipe or socket")
    if _has_sidecar(path):
        return _known(FileKind.ENGINE, f"Measure it: {command_line('eval', path)}")
    suffix = path.suffix.lower()
    if path.name == MODEL_FILE and (path.parent / MANIFEST_FILE).is_file():
        return _known(FileKind.MODEL, _build(path.parent))
    if suffix == ".json" or _read_schema(path) is not None:
        return _describe_json(path)
    kind = name_content(path)
    if suffix == ".tar" and not read_start(path).startswith(_TORCH_STARTS):
        return KnownPath(FileKind.OTHER, "a TAR archive", f"Unpack it: tar xf {quote(str(path))}")
    if suffix in CHECKPOINT_SUFFIXES or _is_checkpoint(path):
        fix = f"Make an engine from it: {command_line('export', path)}, then adq-edge build"
        return _known(FileKind.CHECKPOINT, fix)
    if kind == LFS_POINTER:
        return KnownPath(FileKind.OTHER, kind, "Fetch the file that it stands for: git lfs pull")
    if kind == FileKind.IMAGE.value:
        return _known(FileKind.IMAGE, _judge(path))
    return None if kind is None else KnownPath(FileKind.OTHER, kind)


def _known(kind: FileKind, fix: Optional[str] = None, name: Optional[str] = None) -> KnownPath:
    return KnownPath(kind, name or kind.value, fix)


def _build(bundle: Path) -> str:
    return f"Make an engine from it: {command_line('build', bundle)}"


def _judge(image: Path) -> str:
    from adq_edge.core.images.folders import UNREAD_SUFFIXES  # imports OpenCV

    if image.suffix.lower() in UNREAD_SUFFIXES:
        return "Convert it to PNG"
    return f"Judge it: {command_line('predict', 'ENGINE', image)}"


def _has_sidecar(path: Path) -> bool:
    return path.with_name(path.name + SIDECAR_SUFFIX).is_file()


BESIDE_ENGINE = (FileKind.SIDECAR, FileKind.PRODUCTS)
"""The kinds of files beside an engine that have its name with a further suffix."""


def _describe_json(path: Path) -> KnownPath:
    engine = path.with_suffix("")
    schema = _read_schema(path)
    fix: Optional[str]
    if path.name == MANIFEST_FILE and (path.parent / MODEL_FILE).is_file():
        return _known(FileKind.MANIFEST, _build(path.parent))
    if schema == "adq-edge/engine":
        return _known(FileKind.SIDECAR, f"Measure the engine: {command_line('eval', engine)}")
    if schema == "adq-edge/ranges":
        bundle = path.parent.parent if path.parent.name == RANGES_FOLDER else Path("BUNDLE")
        fix = f"Make an engine from its bundle: {command_line('build', bundle)} --int8"
        return _known(FileKind.RANGES, fix)
    if schema == "adq-edge/plan":
        fix = f"Make an engine with it: {command_line('build', 'BUNDLE', '--plan', path)}"
        return _known(FileKind.PLAN, fix)
    if schema == "adq-edge/products":
        return _known(FileKind.PRODUCTS, f"List them: {command_line('fit', engine, '--list')}")
    if schema == "adq-edge/synthetic":
        fix = f"Train a model: {command_line('train', '--data', path.parent)}"
        return KnownPath(FileKind.JSON, "the description of synthetic images", fix)
    if schema is not None:
        fix = f"Show it: {command_line('report', path)}" if schema in SHOWN_BY_REPORT else None
        return KnownPath(FileKind.RESULT, f"a result file ({schema})", fix)
    return _known(FileKind.JSON)


def _read_schema(path: Path) -> Optional[str]:
    """Return the schema name of a JSON file of adq-edge; it is the file's first field."""
    match = _SCHEMA.match(read_start(path))
    return None if match is None else match.group(1).decode("ascii")


def _is_checkpoint(path: Path) -> bool:
    """Return True for a file in the archive format of torch.save, whatever its suffix."""
    start = read_start(path)
    return start.startswith(b"PK\x03\x04") and b"/data.pkl" in start


def _describe_folder(path: Path) -> KnownPath:
    if (path / MANIFEST_FILE).is_file():
        return _known(FileKind.BUNDLE, _build(path))
    for kind, plural in _PLURALS.items():
        inside = next(find_in(path, kind, below=False), None)
        if inside is not None:
            known = describe_path(inside)
            fix = None if known is None or known.fix is None else known.fix.replace("it:", "one of them:", 1)
            if kind is FileKind.FOREIGN:
                fix = f"Make a bundle from one of them: {command_line('import', inside)}"
            return KnownPath(FileKind.FOLDER, f"a folder of {plural}", fix)
    if has_images(path):
        fix = f"Train a model on it: {command_line('train', '--data', path)}"
        return KnownPath(FileKind.FOLDER, "a folder of images", fix)
    return _known(FileKind.FOLDER)


_PLURALS = {
    FileKind.ENGINE: "engines",
    FileKind.BUNDLE: "bundles",
    FileKind.CHECKPOINT: "checkpoints",
    FileKind.RESULT: "result files",
    FileKind.FOREIGN: "ONNX models",
}


def find_in(folder: Path, kind: FileKind, *, below: bool = True) -> Iterator[Path]:
    """Yield the engines, bundles, checkpoints or result files in a folder, by name.

    Only names are read, and the first bytes of JSON files.

    Args:
        folder: the folder.
        kind: the kind to look for.
        below: look into the folders in it too.
    """
    matches, folders = _MATCHES[kind], []
    for path in _entries(folder):
        if matches(path):
            yield path
        elif below and path.is_dir():
            folders.append(path)
    for path in folders:
        yield from find_in(path, kind, below=False)


_MATCHES: Mapping[FileKind, Callable[[Path], bool]] = {
    FileKind.ENGINE: lambda path: path.is_file() and _has_sidecar(path),
    FileKind.BUNDLE: lambda path: is_bundle(path),
    FileKind.CHECKPOINT: lambda path: path.suffix.lower() in CHECKPOINT_SUFFIXES and path.is_file(),
    FileKind.FOREIGN: lambda path: path.suffix.lower() == ONNX_SUFFIX and not _has_sidecar(path),
    FileKind.RESULT: lambda path: path.suffix.lower() == ".json" and _read_schema(path) in SHOWN_BY_REPORT,
}


def is_bundle(folder: Path) -> bool:
    """Return True if a folder has the files of a bundle; they are not read."""
    return (folder / MANIFEST_FILE).is_file() and (folder / MODEL_FILE).is_file()


def has_images(folder: Path) -> bool:
    """Return True if an image lies in a folder or in one of the folders below it, up to three levels deep."""
    from adq_edge.core.images.folders import IMAGE_SUFFIXES  # imports OpenCV

    folders = [folder]
    for _ in range(4):
        entries = [path for one in folders for path in _entries(one)]
        if any(path.suffix.lower() in IMAGE_SUFFIXES for path in entries):
            return True
        folders = [path for path in entries[:_MOST_NAMES] if path.is_dir()]
    return False


def _entries(folder: Path) -> List[Path]:
    """Return the visible entries of a folder, sorted by name; none if it cannot be read."""
    try:
        with os.scandir(str(folder)) as entries:
            names = [entry.name for entry in itertools.islice(entries, _MOST_NAMES)]
    except OSError:
        return []
    return [folder / name for name in sorted(names) if not name.startswith(".")]
