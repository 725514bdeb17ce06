"""The folder of a bundle that is about to be written."""

from __future__ import annotations

from pathlib import Path
from typing import List

from adq_edge.artifacts.bundle import MANIFEST_FILE, RANGES_FOLDER, Manifest
from adq_edge.artifacts.ranges import RANGES_SCHEMA
from adq_edge.core.errors import BundleError
from adq_edge.core.files import is_empty, json_kind, read_head, storage_errors


def refuse_foreign_folder(folder: Path) -> None:
    """Refuse a folder with other content: only the bundle's files in a bundle of adq-edge are replaced."""
    if folder.suffix.lower() == ".onnx":
        raise BundleError(
            "a bundle is a folder; its name may not end in .onnx", where=folder, fix="Omit .onnx"
        )
    with storage_errors(folder):
        if not folder.exists() or (folder.is_dir() and is_empty(folder)):
            return
        manifest, kind = folder / MANIFEST_FILE, Manifest.kind()
        if not (manifest.is_file() and kind is not None and kind.recognizes(manifest)):
            raise BundleError("exists and is not a bundle", where=folder, fix="Choose another output folder")


def stale_ranges(folder: Path, model_sha256: str) -> List[Path]:
    """Return the ranges files in a bundle that belong to another model than the new one."""
    kind = json_kind(RANGES_SCHEMA)
    ranges = [path for path in (folder / RANGES_FOLDER).glob("*.json") if kind.recognizes(path)]
    return [path for path in ranges if model_sha256.encode("ascii") not in read_head(path)]
