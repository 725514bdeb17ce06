"""Finds image files in folders; the same suffixes hold for a named file and for a folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import AbstractSet, Iterator, List, Set, Tuple

from adq_edge.core.files import storage_errors
from adq_edge.core.images.heat_map_files import has_heat_map_name, is_heat_map
from adq_edge.core.images.output_mark import is_sheet

SUFFIX_NAMES = "avif bmp dib gif jp2 jpe jpeg jpg pbm pgm png pnm ppm tif tiff webp"
IMAGE_SUFFIXES = frozenset(f".{name}" for name in SUFFIX_NAMES.split())
"""Suffixes of image files, in lower case; upper case is read too."""

_UNREAD = "arw cr2 cr3 dcm dng exr hdr heic heif hif j2k jxl nef orf psd rw2"
UNREAD_SUFFIXES = frozenset(f".{name}" for name in _UNREAD.split())
"""Suffixes of image files in formats that are not read, in lower case."""

_JUNK_FOLDERS = frozenset({"@eadir", "__macosx", "$recycle.bin", "system volume information"})


def is_hidden(name: str) -> bool:
    """Return True if a file or folder is hidden, or made by a file system or a NAS."""
    return name.startswith(".") or name.lower() in _JUNK_FOLDERS


def find_images(folder: Path) -> List[Path]:
    """Return the image files in `folder` and the folders below it, sorted by path, without hidden ones.

    Heat maps, sheets and plots that adq-edge wrote are left out. Links to folders are followed, each folder
    once.

    Raises:
        StorageError: a folder cannot be read.
    """
    with storage_errors(folder):
        return sorted(path for path in _walk(folder, IMAGE_SUFFIXES) if not _shows_results(path))


def find_unread_images(folder: Path) -> List[Path]:
    """Return the image files in `folder` and the folders below it in formats that are not read, sorted.

    Raises:
        StorageError: a folder cannot be read.
    """
    with storage_errors(folder):
        return sorted(_walk(folder, UNREAD_SUFFIXES))


def _shows_results(path: Path) -> bool:
    """Return True if adq-edge wrote a file, with the results of other images."""
    return (has_heat_map_name(path) and is_heat_map(path)) or is_sheet(path)


def _walk(top: Path, suffixes: AbstractSet[str]) -> Iterator[Path]:
    seen: Set[Tuple[int, int]] = set()
    folders = [top]
    while folders:
        folder = folders.pop()
        status = folder.stat()
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        inside, files = list_folder(folder)
        folders.extend(folder / name for name in reversed(inside))
        # A broken link too: reading it is an error.
        yield from (path for path in map(folder.joinpath, files) if path.suffix.lower() in suffixes)


def list_folder(folder: Path) -> Tuple[List[str], List[str]]:
    """Return the names of the folders and of the other entries in a folder, sorted, without hidden ones.

    Raises:
        OSError: the folder cannot be read.
    """
    folders: List[str] = []
    files: List[str] = []
    with os.scandir(str(folder)) as entries:
        for entry in entries:
            if not is_hidden(entry.name):
                (folders if _is_folder(entry) else files).append(entry.name)
    return sorted(folders), sorted(files)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def is_folder(path: Path) -> bool:
    """Return True if a path is a folder; False if it is another file, is missing or cannot be read."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def is_file(path: Path) -> bool:
    """Return True if a path is a regular file; False if it is another file, is missing or cannot be read."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False
