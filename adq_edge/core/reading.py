"""Reads files of any origin: only regular files, of bounded size, and JSON of bounded depth."""

from __future__ import annotations

import contextlib
import json
import math
import os
import stat
import zipfile
from pathlib import Path
from typing import IO, Any, Dict, Iterator, List, Tuple

from adq_edge.core.errors import StorageError
from adq_edge.core.storage import storage_errors

LARGEST_JSON = 64 * 2**20
"""Bytes of a JSON file. An engine's recording of one hour at 10 Hz takes 11 MB."""
DEEPEST_JSON = 32
"""Containers inside each other; adq-edge's own files have at most 8."""
_MOST_CONTAINERS = 2**20
_MOST_VALUES = 2 * 10**6
"""Each takes up to 4 us to check. An engine's recording of one hour at 10 Hz has 500,000."""
_DIGITS_AS_ZEROS = bytes(ord("0" if chr(code).isdigit() and code < 128 else " ") for code in range(256))
LARGEST_INTEGER = 2**63 - 1
_BYTE_ORDER_MARKS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


@contextlib.contextmanager
def open_regular(path: Path, largest: int) -> Iterator[IO[bytes]]:
    """Open a regular file for reading; refuse a pipe, device, socket or folder without waiting for it.

    Args:
        path: the file.
        largest: the largest allowed size in bytes.

    Raises:
        StorageError: the file cannot be read, is of another kind, or is too large.
    """
    with storage_errors(path):
        if "\0" in str(path):
            raise StorageError("not a possible file name", where=path, fix="Name a file")
        descriptor = os.open(str(path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            _require_regular(os.fstat(descriptor), path, largest)
        except BaseException:
            os.close(descriptor)
            raise
        with os.fdopen(descriptor, "rb") as file:
            yield file


def _require_regular(status: os.stat_result, path: Path, largest: int) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise StorageError("is a folder, not a file", where=path, fix="Name a file")
    if not stat.S_ISREG(status.st_mode):
        raise StorageError("not a regular file", where=path, fix="Copy its content into a file")
    if status.st_size > largest:
        size, most = (f"{number / 1e6:,.0f} MB" for number in (status.st_size, largest))
        what = f"is {size}; a file of this kind has at most {most}"
        raise StorageError(what, where=path, fix="Check that it is the right file")


def read_regular(path: Path, largest: int) -> bytes:
    """Return the content of a regular file; arguments and errors are those of `open_regular`."""
    with open_regular(path, largest) as file:
        return read_open_file(file)


def read_open_file(file: IO[bytes]) -> bytes:
    """Return the content of an open file; one byte more than its size if it grows meanwhile."""
    return file.read(os.fstat(file.fileno()).st_size + 1)  # Python reserves memory for the number first


def require_uncompressed(file: IO[bytes]) -> None:
    """Check that the entries of a ZIP archive take no more memory than the archive has bytes.

    The position in the file is the start afterwards.

    Raises:
        ValueError: an entry is compressed or encrypted, or entries share bytes.
        zipfile.BadZipFile: not a ZIP archive, and other errors of a damaged one.
    """
    size = file.seek(0, os.SEEK_END)
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
    if any(entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 for entry in entries):
        raise ValueError("is a compressed archive")
    if sum(entry.file_size for entry in entries) > size:
        raise ValueError("is an archive whose entries share bytes")
    file.seek(0)


def parse_json(content: bytes) -> Any:
    """Return the value of a JSON text in UTF-8, with tuples for lists.

    Raises:
        ValueError: not JSON, or JSON with an infinite number, an integer of more than 64 bits, a key twice in
            an object, or too many or too deeply nested containers; the text says which.
    """
    if content[:2] in _BYTE_ORDER_MARKS:
        raise ValueError(f"it is {_BYTE_ORDER_MARKS[content[:2]]} text; save it as UTF-8")
    if not content.strip():
        raise ValueError("it is empty")
    if content.count(b"[") + content.count(b"{") > _MOST_CONTAINERS:
        raise ValueError("it has more than a million lists and objects")
    if content.count(b",") > _MOST_VALUES:
        raise ValueError("it has more than two million values")
    try:
        document = json.loads(
            content.decode("utf-8-sig"),
            parse_float=_number,
            parse_constant=_number,
            parse_int=_integer if _has_long_integer(content) else None,
            object_pairs_hook=_without_repeated_keys,
        )
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    return with_tuples(document)


_TOO_DEEP = f"it has more than {DEEPEST_JSON} lists and objects inside each other"


def _number(text: str) -> float:
    """Return a JSON number as a float; Python's reader accepts NaN, Infinity and 1e999 as well."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} is not a finite number")
    return value


def _has_long_integer(content: bytes) -> bool:
    """Return True if there are 19 digits in a row; the check costs a hundredth of the reading."""
    return b"0" * 19 in content.translate(_DIGITS_AS_ZEROS)


def _integer(text: str) -> int:
    if len(text) > 20 or abs(int(text)) > LARGEST_INTEGER:
        raise ValueError(f"{text[:20]}... is too large for an integer")
    return int(text)


def _without_repeated_keys(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"it has the key {twice[:100]!r} twice in an object")
    return found


def with_tuples(value: Any, depth: int = DEEPEST_JSON) -> Any:
    """Return a JSON value with tuples for lists: a cast by dacite would also split a string into letters.

    Raises:
        ValueError: more than `depth` containers inside each other.
    """
    if not isinstance(value, (list, dict)):
        return value
    if not depth:
        raise ValueError(_TOO_DEEP)
    items = value if isinstance(value, list) else value.values()
    if not {list, dict} & set(map(type, items)):
        return tuple(value) if isinstance(value, list) else value
    if isinstance(value, list):
        return tuple(with_tuples(item, depth - 1) for item in value)
    return {key: with_tuples(item, depth - 1) for key, item in value.items()}
