"""Python libraries: which are installed, which load, and whose TensorRT this Python can see.

Nothing is imported into this process: a broken library may hang it or crash it.
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
from typing import Optional, Tuple

from adq_edge.hardware.commands import Runner, run_command
from adq_edge.hardware.dpkg import debian_packages

NOT_INSTALLED = "not installed"

_LIBNVINFER = ("libnvinfer8", "libnvinfer10", "libnvinfer11")


class Flavour(str, enum.Enum):
    """The two products that go by the name of TensorRT."""

    TENSORRT = "TensorRT"
    RTX = "TensorRT-RTX"


_MODULES = {Flavour.TENSORRT: "tensorrt", Flavour.RTX: "tensorrt_rtx"}


@dataclasses.dataclass(frozen=True)
class Library:
    """A Python library.

    Attributes:
        name: what it is called.
        version: the installed version; None where none is known.
        problem: why it cannot be used; None where it can.
    """

    name: str
    version: Optional[str]
    problem: Optional[str]


@dataclasses.dataclass(frozen=True)
class TensorRT:
    """A TensorRT on this machine.

    Attributes:
        flavour: TensorRT or TensorRT-RTX.
        version: its version; None where unknown.
        folder: where its Python package is; None where only its libraries are installed.
        problem: why this Python cannot use it; None where it can.
    """

    flavour: Flavour
    version: Optional[str]
    folder: Optional[str]
    problem: Optional[str]


def check_library(name: str, module: str, version: Optional[str], run: Optional[Runner] = None) -> Library:
    """Look for a library and, if `run` is given, load it in a process of its own.

    Args:
        name: what it is called.
        module: what is imported.
        version: its version, where known.
        run: how Python is run; None to look only, as for libraries that take seconds to load.
    """
    if _folder(module.split(".")[0]) is None:
        return Library(name, None, NOT_INSTALLED)
    told, problem = (None, None) if run is None else _load(module, run)
    return Library(name, version or told, problem)


def distribution_version(name: str) -> Optional[str]:
    """Return the version of an installed distribution; None where there is none of that name."""
    with contextlib.suppress(metadata.PackageNotFoundError):
        return metadata.version(name)
    return None


def find_tensorrts(root: Path = Path("/"), run: Runner = run_command) -> Tuple[TensorRT, ...]:
    """Find what TensorRT there is: what this Python sees, else what the system has and it does not see.

    Args:
        root: where `usr` and `var` are.
        run: how Python is run, to see whether a TensorRT loads.
    """
    seen = [_visible(flavour, module, run) for flavour, module in _MODULES.items()]
    found = tuple(tensorrt for tensorrt in seen if tensorrt is not None)
    if any(tensorrt.flavour is Flavour.TENSORRT for tensorrt in found):
        return found
    return (*_unseen(root), *found)


def _visible(flavour: Flavour, module: str, run: Runner) -> Optional[TensorRT]:
    folder = _folder(module)
    if folder is None:
        return None
    told, problem = _load(module, run)
    return TensorRT(flavour, told or _recorded_version(folder), str(folder), problem)


def _unseen(root: Path) -> Tuple[TensorRT, ...]:
    """Return the system's TensorRT that this Python does not see: its package, else its bare libraries."""
    for folder in sorted((root / "usr" / "lib").glob("python3*/dist-packages/tensorrt"), reverse=True):
        reason = _why_unseen(folder.parent.parent.name[len("python") :])
        return (TensorRT(Flavour.TENSORRT, _recorded_version(folder), str(folder), reason),)
    packages = debian_packages(_LIBNVINFER, root)
    if not packages:
        return ()
    version = re.split(r"[-+]", next(iter(packages.values())))[0]
    return (TensorRT(Flavour.TENSORRT, version, None, "its Python package, python3-libnvinfer, is missing"),)


def _why_unseen(python: str) -> str:
    mine = f"{sys.version_info.major}.{sys.version_info.minor}"
    if python not in ("3", mine):
        return f"it is Python {python}'s, and this is Python {mine}"
    if sys.prefix != sys.base_prefix:
        return "this virtual environment does not see the system's packages"
    return f"this Python ({sys.executable}) does not see the system's packages"


def _recorded_version(folder: Path) -> Optional[str]:
    """Return the version in the name of the `tensorrt-8.5.2.2.dist-info` beside a package."""
    for information in folder.parent.glob(f"{folder.name}-*-info"):
        return information.name[len(folder.name) + 1 :].rsplit(".", 1)[0]
    return None


def _folder(module: str) -> Optional[Path]:
    """Return the folder of a package that this Python would import; None where there is none."""
    with contextlib.suppress(ImportError, ValueError):
        spec = importlib.util.find_spec(module)
        if spec is not None and spec.origin is not None:
            return Path(spec.origin).parent
    return None


def _load(module: str, run: Runner) -> Tuple[Optional[str], Optional[str]]:
    """Import a module in a process of its own; return its version, and what went wrong."""
    # Without the current folder on the path: a folder of the user's may bear the library's name.
    code = f"import sys; del sys.path[0]; import {module} as m; print(getattr(m, '__version__', ''))"
    answer = run([sys.executable, "-c", code])
    if answer.problem is not None:
        return None, f"does not load: {answer.last_words or answer.problem}"
    lines = answer.output.split()
    return (lines[-1] if lines else None), None
