"""Installed Python libraries, whether they load, and the TensorRT installations that this Python can use.

Nothing is imported into this process, because a broken library may hang or crash it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import importlib.util
import re
import sys
from importlib import metadata
from pathlib import Path
from typing import NamedTuple, Optional, Tuple

from adq_edge.core.runtimes import TELEMETRY
from adq_edge.hardware.commands import Runner, run_command
from adq_edge.hardware.dpkg import debian_packages

NOT_INSTALLED = "not installed"

_LIBNVINFER = ("libnvinfer8", "libnvinfer10", "libnvinfer11")


class Product(str, enum.Enum):
    """The two TensorRT products."""

    TENSORRT = "TensorRT"
    RTX = "TensorRT-RTX"


_MODULES = {Product.TENSORRT: "tensorrt", Product.RTX: "tensorrt_rtx"}


@dataclasses.dataclass(frozen=True)
class Library:
    """A Python library.

    Attributes:
        problem: why it cannot be used; None if it can, or if that is unknown.
        unchecked: why it is unknown whether the library loads, for example on a busy machine.
    """

    name: str
    version: Optional[str]
    problem: Optional[str]
    unchecked: Optional[str] = None


@dataclasses.dataclass(frozen=True)
class TensorRT:
    """A TensorRT installation.

    Attributes:
        folder: folder of its Python package; None if only its libraries are installed.
        problem: why this Python cannot use it; None if it can, or if that is unknown.
        unchecked: why it is unknown whether TensorRT loads, for example on a busy machine.
    """

    product: Product
    version: Optional[str]
    folder: Optional[str]
    problem: Optional[str]
    unchecked: Optional[str] = None


class _Loading(NamedTuple):
    """Result of an import in a separate process."""

    version: Optional[str] = None
    problem: Optional[str] = None
    unchecked: Optional[str] = None


def check_library(name: str, module: str, version: Optional[str], run: Optional[Runner] = None) -> Library:
    """Find a library and, if `run` is given, load it in a separate process.

    Args:
        name: name in the result.
        module: the module to import.
        version: the version, if known.
        run: runs Python; None to skip loading, for example for slow libraries.
    """
    if _folder(module.split(".")[0]) is None:
        return Library(name, None, NOT_INSTALLED)
    loading = _Loading() if run is None else _load(module, run)
    return Library(name, version or loading.version, loading.problem, loading.unchecked)


def distribution_version(name: str) -> Optional[str]:
    """Return the version of an installed distribution; None if it is not installed."""
    with contextlib.suppress(metadata.PackageNotFoundError):
        return metadata.version(name)
    return None


def find_tensorrts(root: Path = Path("/"), run: Runner = run_command) -> Tuple[TensorRT, ...]:
    """Find the TensorRT installations of this Python, else those of the system."""
    visible = (_visible(product, module, run) for product, module in _MODULES.items())
    found = tuple(tensorrt for tensorrt in visible if tensorrt is not None)
    if any(tensorrt.product is Product.TENSORRT for tensorrt in found):
        return found
    return (*_hidden(root), *found)


def _visible(product: Product, module: str, run: Runner) -> Optional[TensorRT]:
    folder = _folder(module)
    if folder is None:
        return None
    loading = _load(module, run)
    version = loading.version or _recorded_version(folder)
    return TensorRT(product, version, str(folder), loading.problem, loading.unchecked)


def _hidden(root: Path) -> Tuple[TensorRT, ...]:
    """Return the TensorRT of the system that this Python cannot import: its package, else its libraries."""
    for folder in sorted((root / "usr" / "lib").glob("python3*/dist-packages/tensorrt"), reverse=True):
        reason = _why_hidden(folder.parent.parent.name[len("python") :])
        return (TensorRT(Product.TENSORRT, _recorded_version(folder), str(folder), reason),)
    packages = debian_packages(_LIBNVINFER, root)
    if not packages:
        return ()
    version = re.split(r"[-+]", next(iter(packages.values())))[0]
    return (TensorRT(Product.TENSORRT, version, None, "its Python package, python3-libnvinfer, is missing"),)


def _why_hidden(python: str) -> str:
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    if python not in ("3", own):
        return f"it is installed for Python {python}, and this is Python {own}"
    if sys.prefix != sys.base_prefix:
        return "this virtual environment does not include the system's packages"
    return f"this Python ({sys.executable}) does not include the system's packages"


def _recorded_version(folder: Path) -> Optional[str]:
    """Return the version from the folder name next to a package, such as `tensorrt-8.5.2.2.dist-info`."""
    for information in folder.parent.glob(f"{folder.name}-*-info"):
        return information.name[len(folder.name) + 1 :].rsplit(".", 1)[0]
    return None


def _folder(module: str) -> Optional[Path]:
    """Return the folder of a package that this Python can import; None if it is not installed."""
    with contextlib.suppress(ImportError, ValueError):
        spec = importlib.util.find_spec(module)
        if spec is not None and spec.origin is not None:
            return Path(spec.origin).parent
    return None


def _load(module: str, run: Runner) -> _Loading:
    """Import a module in a separate process."""
    # Remove the current folder from the path: it may contain a folder with the library's name.
    ready = f"import sys; del sys.path[0]; sys.modules['{TELEMETRY}'] = None"
    code = f"{ready}; import {module} as m; print(getattr(m, '__version__', ''))"
    answer = run([sys.executable, "-c", code])
    if answer.is_shortage:
        return _Loading(unchecked=f"not checked, its import {answer.problem}")
    if answer.problem is not None:
        return _Loading(problem=f"does not load: {answer.last_error_line or answer.problem}")
    words = answer.output.split()
    return _Loading(words[-1] if words else None)
