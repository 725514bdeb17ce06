"""The TensorRT that is installed, and the three questions that every branch on its release asks."""

from __future__ import annotations

import dataclasses
import enum
import importlib
import re
from typing import Any, Tuple

from adq_edge.core.errors import MissingDependencyError
from adq_edge.core.options import RuntimeName

OLDEST = (8, 5)
_RTX_SPEAKS_LIKE = (11, 0)


class Flavour(str, enum.Enum):
    """The members of the TensorRT family, by the names of their Python modules."""

    TENSORRT = "tensorrt"
    RTX = "tensorrt_rtx"

    @property
    def label(self) -> str:
        """The name that NVIDIA gives it."""
        return "TensorRT" if self is Flavour.TENSORRT else "TensorRT-RTX"


def flavour_of(runtime: RuntimeName) -> Flavour:
    """Return the member of the family that is meant by a runtime's name."""
    return Flavour.RTX if runtime is RuntimeName.TENSORRT_RTX else Flavour.TENSORRT


_REMEDIES = {
    Flavour.TENSORRT: (
        "On a Jetson it comes with JetPack: make a venv that sees it with ./jetson_setup.sh; on a PC: pip "
        "install 'adq-edge[tensorrt]'"
    ),
    Flavour.RTX: "Install it: pip install 'adq-edge[rtx]'",
}


@dataclasses.dataclass(frozen=True)
class Release:
    """An imported TensorRT.

    Attributes:
        trt: the module.
        flavour: which member of the family it is.
        version: as the module says it, 8.5.2.2 for one.
    """

    trt: Any
    flavour: Flavour
    version: str

    @property
    def is_rtx(self) -> bool:
        """True for TensorRT-RTX, whose interface is that of release 11 with members of its own."""
        return self.flavour is Flavour.RTX

    def at_least(self, major: int, minor: int = 0) -> bool:
        """Return True if the interface is that of this release or a later one."""
        return self._interface >= (major, minor)

    def before(self, major: int, minor: int = 0) -> bool:
        """Return True if the interface is older than that of this release."""
        return self._interface < (major, minor)

    @property
    def _interface(self) -> Tuple[int, int]:
        return _RTX_SPEAKS_LIKE if self.is_rtx else version_pair(self.version)


def version_pair(version: str) -> Tuple[int, int]:
    """Return major and minor number of a version; zeros for what is none."""
    found = re.match(r"(\d+)\.(\d+)", version)
    return (int(found.group(1)), int(found.group(2))) if found else (0, 0)


def load_release(flavour: Flavour) -> Release:
    """Import a member of the TensorRT family.

    Raises:
        MissingDependencyError: it is not installed, a library of its is missing, or it is older than 8.5.
    """
    try:
        module = importlib.import_module(flavour.value)
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"{flavour.label} is not installed for this Python", fix=_REMEDIES[flavour]
        ) from error
    except (ImportError, OSError) as error:
        raise MissingDependencyError(
            f"{flavour.label} is installed but does not load ({error})", fix="adq-edge doctor says more"
        ) from error
    release = Release(module, flavour, str(getattr(module, "__version__", "")))
    if release.before(*OLDEST):
        raise MissingDependencyError(
            f"TensorRT {release.version or 'without a version'} is older than {OLDEST[0]}.{OLDEST[1]}",
            fix="Install JetPack 5 or later",
        )
    return release
