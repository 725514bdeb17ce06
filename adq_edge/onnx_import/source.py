"""Finds and reads the ONNX model in what another tool wrote."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from pathlib import Path
from typing import Any, Iterator, List, Mapping, Optional, Tuple

import onnx

from adq_edge.artifacts.content_kinds import name_content
from adq_edge.core.errors import ForeignModelError, first_line
from adq_edge.core.reading import LARGEST_JSON, parse_json, read_regular
from adq_edge.core.storage import storage_errors
from adq_edge.onnx_import.external_data import LARGEST_MODEL, digest, load_external_data
from adq_edge.onnx_import.further_inputs import with_constants
from adq_edge.onnx_import.metadata import ToolMetadata, parse_metadata
from adq_edge.quantization.graph.model_file import parse_graph

_DEEPEST = 6
"""Folders inside each other that are searched: anomalib's results lie five folders deep."""
_MOST_ENTRIES = 20000
_METADATA = "metadata.json"
_OPENVINO_SUFFIXES = frozenset({".xml", ".bin"})


@dataclasses.dataclass(frozen=True)
class Source:
    """A model of another tool, read into memory.

    Attributes:
        path: the ONNX file.
        model: the model with all its weights.
        sha256: hash of the ONNX file and of its weights files.
        metadata: content of anomalib's metadata file beside the model; None if there is none.
        is_changed: True if inputs of the file are constants in `model`.
    """

    path: Path
    model: onnx.ModelProto
    sha256: str
    metadata: Optional[ToolMetadata] = None
    is_changed: bool = False


@contextlib.contextmanager
def errors_of(source: Source) -> Iterator[None]:
    """Name the file in errors that do not name one, and in those of the checker of onnx."""
    try:
        yield
    except ForeignModelError as error:
        if error.where is not None:
            raise
        raise ForeignModelError(error.what, where=source.path, fix=error.fix) from error
    except onnx.checker.ValidationError as error:
        raise ForeignModelError(
            f"is not a valid ONNX model ({first_line(error)})",
            where=source.path,
            fix="Export or copy the model again",
        ) from error


def read_source(path: Path, constants: Optional[Mapping[str, Tuple[float, ...]]] = None) -> Source:
    """Read the model of an ONNX file, or the one of a folder of another tool.

    Args:
        path: the file or folder.
        constants: values of inputs that become constants, by name.

    Raises:
        ForeignModelError: there is no ONNX model or there are several, it is damaged or too large, one of
            its weights files is missing, or it has no such input.
        StorageError: a file cannot be read.
    """
    with storage_errors(path):
        file = find_model(path)
        if file.stat().st_size > LARGEST_MODEL:
            raise ForeignModelError(
                f"is {file.stat().st_size / 1e9:.1f} GB; an ONNX model has at most 2 GB",
                where=file,
                fix="Export a smaller model, such as one with a smaller memory bank",
            )
        try:
            model = parse_graph(read_regular(file, LARGEST_MODEL))
        except ValueError as error:
            kind = name_content(file)
            what = str(error) if kind is None else f"is {kind}, not an ONNX model"
            raise ForeignModelError(what, where=file, fix="Export or copy the model again") from error
        files = load_external_data(model, file)
        source = Source(file, model, digest([file, *files]), _read_metadata(file.with_name(_METADATA)))
    if not constants:
        return source
    with errors_of(source):
        return dataclasses.replace(source, model=with_constants(model, constants), is_changed=True)


def find_model(path: Path) -> Path:
    """Return the ONNX file that a path means: the file itself, or the only one in a folder."""
    if path.is_dir():
        return _find_in_folder(path)
    if path.suffix.lower() in _OPENVINO_SUFFIXES and path.is_file():
        return _beside_openvino(path)
    if not path.exists():
        raise ForeignModelError("no such file or folder", where=path, fix="Check the path")
    return path


def _find_in_folder(folder: Path) -> Path:
    files = _files(folder)
    models = [file for file in files if file.suffix.lower() == ".onnx"]
    if len(models) == 1:
        return models[0]
    if models:
        names = ", ".join(str(model.relative_to(folder)) for model in models[:3])
        raise ForeignModelError(
            f"has {len(models)} ONNX models ({names})", where=folder, fix=f"Name one of them: {models[0]}"
        )
    for file in files:
        if file.suffix.lower() == ".xml" and file.with_suffix(".bin").is_file():
            return _beside_openvino(file)
    raise ForeignModelError(
        "has no ONNX model", where=folder, fix="Give the .onnx file, or the folder that it was exported to"
    )


def _files(folder: Path) -> List[Path]:
    """Return the files in a folder and in the folders below it, up to a depth and a number."""
    found: List[Path] = []
    for root, folders, names in os.walk(str(folder)):
        depth = len(Path(root).relative_to(folder).parts)
        folders[:] = [] if depth >= _DEEPEST else sorted(name for name in folders if not name.startswith("."))
        found.extend(Path(root) / name for name in sorted(names))
        if len(found) > _MOST_ENTRIES:
            break
    return found


def _beside_openvino(path: Path) -> Path:
    """Return the ONNX file of the same model as an OpenVINO file, beside it or in the folder `onnx`."""
    folders = (path.parent, path.parent.parent / "onnx")
    candidates = [folder / f"{path.stem}.onnx" for folder in folders]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise ForeignModelError(
        "is an OpenVINO model, from which no ONNX model can be made",
        where=path,
        fix="Export it as ONNX: anomalib export --model MODEL --ckpt_path CHECKPOINT --export_type onnx",
    )


def _read_metadata(path: Path) -> Optional[ToolMetadata]:
    if not path.is_file():
        return None
    try:
        content: Optional[Any] = parse_json(read_regular(path, LARGEST_JSON))
    except ValueError as error:
        raise ForeignModelError(
            f"not a JSON file ({error})", where=path, fix="Remove it, or export the model again"
        ) from error
    return parse_metadata(content) if isinstance(content, dict) else None
