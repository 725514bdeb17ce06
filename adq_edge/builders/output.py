"""Checks the path of an engine before it is built."""

from __future__ import annotations

from pathlib import Path

from adq_edge.artifacts.bundle import CHECKPOINT_SUFFIXES
from adq_edge.artifacts.sidecar import ENGINE, Sidecar, sidecar_path
from adq_edge.core.errors import BuildError
from adq_edge.core.files import check_writable, is_stream
from adq_edge.core.images.folders import IMAGE_SUFFIXES, UNREAD_SUFFIXES
from adq_edge.core.runtimes import RUNTIMES, Runtime

_ENGINE_SUFFIXES = frozenset(
    (*(runtime.suffix for runtime in RUNTIMES.values()), ".engine", ".trt", ".xml", ".tflite")
)
"""Suffixes of the engines of all runtimes; some tools name TensorRT engines `.engine` or `.trt`."""
_ALSO = {".plan": (".engine", ".trt")}
"""Other suffixes that are accepted in place of a runtime's own."""
_OTHER_NAMES = "bin csv gz h5 html json log md npy npz pdf pkl products py svg toml txt yaml yml zip"
_OTHER_SUFFIXES = frozenset(f".{name}" for name in _OTHER_NAMES.split())


def check_output(path: Path) -> None:
    """Check that an engine and its sidecar can be written.

    Raises:
        BuildError: the path is a device or a pipe.
        StorageError: it cannot be written, or is a file of another kind.
    """
    if is_stream(path):
        raise BuildError("not a file: an engine and its sidecar are files", where=path, fix="Name a file")
    check_writable(path, ENGINE)
    check_writable(sidecar_path(path), Sidecar.kind())


def check_suffix(path: Path, runtime: Runtime) -> None:
    """Check that the suffix of an engine's path does not stand for another kind of file.

    A name without a suffix, or with a dot in it such as `parts-v1.5`, is accepted.

    Raises:
        BuildError: the suffix is that of another kind of file.
    """
    suffix, own = path.suffix.lower(), runtime.suffix
    if suffix in (own, *_ALSO.get(own, ())):
        return
    if suffix in _ENGINE_SUFFIXES | IMAGE_SUFFIXES | UNREAD_SUFFIXES | CHECKPOINT_SUFFIXES | _OTHER_SUFFIXES:
        what = f"the suffix of an engine for {runtime.label} is {own}, not {path.suffix}"
        stem = path.with_suffix("")
        named = stem if stem.suffix == own else path.with_suffix(own)
        raise BuildError(what, where=path, fix=f"Name it {named}")
