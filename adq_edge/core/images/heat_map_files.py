"""Heat-map files of `predict`: marked PNG files that never replace another file."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import cv2
import numpy as np

from adq_edge.core.files import storage_errors
from adq_edge.core.images.output_mark import HEAT_MAP_MARK, PNG_HEAD, text_chunk
from adq_edge.core.transactions.stage import Stage

_NAME = "_heat_map"
_LONGEST_NAME = 200
"""In bytes. Most file systems allow 255; a number, a suffix and a temporary prefix need some."""
_MARK = text_chunk(HEAT_MAP_MARK)


def has_heat_map_name(path: Path) -> bool:
    """Return True if a file has the name of a heat map; files of other tools may have it too."""
    return _NAME in path.name


def is_heat_map(path: Path) -> bool:
    """Return True if `write_heat_map` wrote this file; False also if it cannot be read."""
    try:
        if path.suffix.lower() != ".png" or not path.is_file():
            return False
        with path.open("rb") as file:
            start = file.read(PNG_HEAD + len(_MARK))
    except (OSError, ValueError):  # a name with a NUL is a ValueError
        return False
    return start[PNG_HEAD:] == _MARK


def write_heat_map(folder: Path, stem: str, image: np.ndarray) -> Path:
    """Write a heat map as a new file `STEM_heat_map.png`, or `STEM_heat_map-2.png` if that name is taken.

    Args:
        folder: the folder, made if it is missing.
        stem: the name of the judged image without its suffix; a very long name is shortened.
        image: uint8 `[H, W, 3]` RGB.

    Returns:
        The file. No other file was changed, also if several processes write to the folder.

    Raises:
        StorageError: the folder cannot be written to or is full.
    """
    content = _encode(image)
    name = _shorten(stem) + _NAME
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(1):
        path = folder / (f"{name}.png" if number == 1 else f"{name}-{number}.png")
        if not os.path.lexists(str(path)) and _write_new(path, content):
            return path
    raise AssertionError("the numbers have no end")


def _encode(image: np.ndarray) -> bytes:
    _, buffer = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    content = buffer.tobytes()
    return content[:PNG_HEAD] + _MARK + content[PNG_HEAD:]


def _shorten(stem: str) -> str:
    encoded = os.fsencode(stem)
    return stem if len(encoded) <= _LONGEST_NAME else encoded[:_LONGEST_NAME].decode("utf-8", "ignore")


def _write_new(path: Path, content: bytes) -> bool:
    """Write a whole file under a name that no file has yet; return False if another process took the name."""
    with storage_errors(path):
        stage = Stage(path.parent)
        try:
            scratch = stage.new / path.name
            with scratch.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            return _rename_to_new(scratch, path)
        finally:
            stage.close()


def _rename_to_new(scratch: Path, path: Path) -> bool:
    try:
        os.link(str(scratch), str(path))  # unlike a rename, this fails if the name is taken
    except FileExistsError:
        return False
    except OSError:  # a file system without links
        if os.path.lexists(str(path)):
            return False
        scratch.rename(path)
    return True
