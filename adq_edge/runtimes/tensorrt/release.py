"""The installed TensorRT, and comparisons of its release."""

from __future__ import annotations

import dataclasses
import re
from typing import Any, Tuple

from adq_edge.core.errors import MissingDependencyError
from adq_edge.core.runtimes import TENSORRT, TENSORRT_RTX, Runtime, load_library

OLDEST = (8, 5)
_RTX_INTERFACE = (11, 0)


@dataclasses.dataclass(frozen=True)
class Release:
    """An imported TensorRT or TensorRT-RTX.

    Attributes:
        trt: the Python module.
        runtime: TensorRT or TensorRT-RTX.
        version: version of the module, "8.5.2.2" for example.
    """

    trt: Any
    runtime: Runtime
    version: str

    @property
    def is_rtx(self) -> bool:
        """True for TensorRT-RTX, which has the interface of release 11 with members of its own."""
        return self.runtime is TENSORRT_RTX

    def at_least(self, major: int, minor: int = 0) -> bool:
        """Return True if the interface is that of this release or a later one."""
        return self._interface >= (major, minor)

    def before(self, major: int, minor: int = 0) -> bool:
        """Return True if the interface is older than that of this release."""
        return self._interface < (major, minor)

    @property
    def _interface(self) -> Tuple[int, int]:
        return _RTX_INTERFACE if self.is_rtx else version_pair(self.version)


def version_pair(version: str) -> Tuple[int, int]:
    """Return the major and the minor number of a version; zeros if the text has none."""
    found = re.match(r"(\d+)\.(\d+)", version)
    return (int(found.group(1)), int(found.group(2))) if found else (0, 0)


def load_release(runtime: Runtime = TENSORRT) -> Release:
    """Import TensorRT or TensorRT-RTX.

    Raises:
        MissingDependencyError: it is not installed, cannot be loaded, or is older than 8.5.
    """
    module = load_library(runtime)
    release = Release(module, runtime, str(getattr(module, "__version__", "")))
    if release.before(*OLDEST):
        raise MissingDependencyError(
            f"TensorRT {release.version or 'without a version'} is older than {OLDEST[0]}.{OLDEST[1]}",
            fix="Install JetPack 5 or later",
        )
    return release
