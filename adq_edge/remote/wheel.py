"""Writes a wheel of the running adq-edge, so that a board gets exactly the same code.

The format is that of PEP 427 and PEP 376 (packaging guide, "Binary distribution format").
"""

from __future__ import annotations

import base64
import hashlib
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Dict

from adq_edge.core.errors import MissingDependencyError
from adq_edge.core.files import atomic_path, storage_errors

_DISTRIBUTION = "adq-edge"

_PACKAGE = Path(__file__).resolve().parents[1]
_COMPATIBILITY = "Wheel-Version: 1.0\nGenerator: adq-edge\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
_LEFT_OUT = (".pyc", ".pt")
"""Compiled files, and the weights of the demo teacher, which a board does not use."""


def distribution() -> metadata.Distribution:
    """Return the installed distribution of adq-edge.

    Raises:
        MissingDependencyError: adq-edge is not installed.
    """
    try:
        return metadata.distribution(_DISTRIBUTION)
    except metadata.PackageNotFoundError:
        raise MissingDependencyError(
            "adq-edge is not installed, it runs from a folder", fix="Install it: pip install ."
        ) from None


def write_wheel(folder: Path) -> Path:
    """Write the wheel and return its path; the same files give the same bytes.

    Raises:
        MissingDependencyError: adq-edge is not installed.
        StorageError: the folder cannot be written to or is full.
    """
    installed = distribution()
    name = f"adq_edge-{installed.version}"
    contents = _package_files()
    about = f"{name}.dist-info"
    contents[f"{about}/METADATA"] = (installed.read_text("METADATA") or "").encode()
    contents[f"{about}/entry_points.txt"] = (installed.read_text("entry_points.txt") or "").encode()
    contents[f"{about}/WHEEL"] = _COMPATIBILITY.encode()
    contents[f"{about}/RECORD"] = _record(contents, f"{about}/RECORD").encode()
    path = folder / f"{name}-py3-none-any.whl"
    with atomic_path(path) as temporary, zipfile.ZipFile(
        str(temporary), "w", zipfile.ZIP_DEFLATED
    ) as archive:
        for member, content in contents.items():
            entry = zipfile.ZipInfo(member)  # constant date (1980), so that the bytes are reproducible
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content)
    return path


def _package_files() -> Dict[str, bytes]:
    contents = {}
    for path in sorted(_PACKAGE.rglob("*")):
        if path.is_file() and path.suffix not in _LEFT_OUT:
            with storage_errors(path):
                contents[path.relative_to(_PACKAGE.parent).as_posix()] = path.read_bytes()
    return contents


def _record(contents: Dict[str, bytes], own_name: str) -> str:
    lines = []
    for name, content in contents.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(content)}\n")
    return "".join([*lines, f"{own_name},,\n"])
