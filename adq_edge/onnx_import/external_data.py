"""Loads the weights that an ONNX file keeps in other files of its folder."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Dict, List, NamedTuple

import onnx

from adq_edge.core.errors import ForeignModelError
from adq_edge.core.files import sha256
from adq_edge.core.reading import open_regular
from adq_edge.quantization.graph.model_file import external_tensors

LARGEST_MODEL = 2**31 - 2**20
"""Bytes of a model with its weights: a protobuf message of 2 GB or more cannot be read."""


def load_external_data(model: onnx.ModelProto, path: Path) -> List[Path]:
    """Move the weights of a model from other files into it; return these files.

    Args:
        model: the model; changed in place.
        path: its ONNX file, for the folder.

    Raises:
        ForeignModelError: a file is missing, lies outside of the model's folder or is too short, or all
            weights together are too large for one file.
    """
    tensors = external_tensors(model)
    fields = [{entry.key: entry.value for entry in tensor.external_data} for tensor in tensors]
    files: Dict[str, Path] = {}
    for location in dict.fromkeys(field.get("location", "") for field in fields):
        files[location] = _file(location, path)
    parts = [_part(tensor, field, files[field.get("location", "")]) for tensor, field in zip(tensors, fields)]
    total = sum(part.length for part in parts)
    if total + path.stat().st_size > LARGEST_MODEL:
        raise ForeignModelError(
            f"its weights are {total / 1e9:.1f} GB; an ONNX model has at most 2 GB",
            where=path,
            fix="Export a smaller model, such as one with a smaller memory bank",
        )
    for tensor, part in zip(tensors, parts):
        _load(tensor, part)
    return list(dict.fromkeys(files.values()))


def _file(location: str, path: Path) -> Path:
    """Return the file of a location, which must be in the folder of the model."""
    folder = path.parent.resolve()
    file = folder / location
    if not location or "\0" in location or folder not in file.resolve().parents:
        raise ForeignModelError(
            f"names the weights file {location!r}, which is outside of the model's folder",
            where=path,
            fix="Export the model again into one folder",
        )
    if not file.is_file():
        raise ForeignModelError(
            f"its weights file {location} is missing",
            where=path,
            fix="Copy it into the folder of the model: torch writes both",
        )
    return file


class _Part(NamedTuple):
    """The bytes of a tensor: from `offset`, `length` bytes of a file."""

    file: Path
    offset: int
    length: int


def _part(tensor: onnx.TensorProto, field: Dict[str, str], file: Path) -> _Part:
    size = file.stat().st_size
    try:
        offset, length = int(field.get("offset", 0)), int(field.get("length", -1))
    except ValueError as error:
        raise _damaged(tensor, file) from error
    length = size - offset if length < 0 else length
    if offset < 0 or offset + length > size:
        raise _damaged(tensor, file)
    return _Part(file, offset, length)


def _load(tensor: onnx.TensorProto, part: _Part) -> None:
    with open_regular(part.file, LARGEST_MODEL) as stream:
        stream.seek(part.offset)
        tensor.raw_data = stream.read(part.length)
    tensor.data_location = onnx.TensorProto.DEFAULT
    del tensor.external_data[:]
    try:
        onnx.numpy_helper.to_array(tensor)
    except Exception as error:  # numpy and onnx have several errors for data that does not fit a shape
        raise _damaged(tensor, part.file) from error


def _damaged(tensor: onnx.TensorProto, file: Path) -> ForeignModelError:
    shape = list(tensor.dims)
    return ForeignModelError(
        f"does not have the values {shape} of {tensor.name!r}: it is cut, or of another model",
        where=file,
        fix="Copy both files of the export again",
    )


def digest(files: List[Path]) -> str:
    """Return the SHA-256 of one file; for several, that of their digests and names."""
    if len(files) == 1:
        return sha256(files[0])
    lines = [f"{sha256(file)}  {file.name}\n" for file in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest()
