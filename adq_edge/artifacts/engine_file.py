"""The bytes of an engine file: those that were hashed are those that a runtime loads."""

from __future__ import annotations

import hashlib
import os
import weakref
from pathlib import Path
from typing import Optional

from adq_edge.artifacts.workspace import SIDECAR_SUFFIX
from adq_edge.core.errors import EngineError
from adq_edge.core.files import storage_errors

LARGEST = 2**31 - 2**12
"""Bytes of the largest engine file, which Linux returns from one read; about the limit of ONNX."""
CHANGED_FIX = (
    "Build the engine again: adq-edge build BUNDLE, or accept it if you know its origin: "
    "adq-edge eval ENGINE --trust"
)


class EngineFile:
    """An engine file that stays open, so that every read returns the same bytes or fails.

    An engine that was replaced or deleted since is still read; one that was overwritten in place is rejected.

    Args:
        path: the engine file.
        sha256: the hash in its sidecar; None to accept any content.

    Attributes:
        path: the engine file.
        sha256: hash of the content; None until the first read of a file that may have any content.

    Raises:
        StorageError: the file cannot be read.
    """

    def __init__(self, path: Path, sha256: Optional[str]) -> None:
        self.path, self.sha256 = path, sha256
        with storage_errors(path):
            self._descriptor = os.open(str(path), os.O_RDONLY | os.O_NONBLOCK)  # does not wait for a FIFO
        weakref.finalize(self, os.close, self._descriptor)

    def read(self) -> bytes:
        """Return the content; any number of threads may call this.

        Raises:
            EngineError: the content differs from the hash, or is too large.
            StorageError: the file cannot be read.
        """
        with storage_errors(self.path):
            size = os.fstat(self._descriptor).st_size
            check_file_size(self.path, size)
            content = os.pread(self._descriptor, size, 0)
        found = hashlib.sha256(content).hexdigest()
        self.sha256 = self.sha256 or found
        if found != self.sha256:
            raise changed_engine_error(self.path)
        return content


def check_file_size(engine: Path, size: int) -> None:
    """Check the size of an engine file in bytes.

    Raises:
        EngineError: the file is too large.
    """
    if size >= LARGEST:
        what = f"a file of {size / 1e9:.1f} GB, no engine is larger than {LARGEST / 1e9:.1f} GB"
        raise EngineError(what, where=engine, fix="Name an engine that adq-edge build wrote")


def changed_engine_error(engine: Path) -> EngineError:
    """Return the error for an engine file that differs from the hash in its sidecar."""
    what = f"not the file that {engine.name}{SIDECAR_SUFFIX} describes (truncated or changed)"
    return EngineError(what, where=engine, fix=CHANGED_FIX)
