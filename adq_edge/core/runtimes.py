"""The registered runtimes: the libraries that run engines. Importing this module imports none of them.

A package adds a runtime through the entry-point group `adq_edge.runtimes`: a `Runtime` object in a module
that imports no library. A complete example is in `examples/runtime/`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import platform
import sys
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

from adq_edge.core.errors import AdqError, MissingDependencyError, first_line

GROUP = "adq_edge.runtimes"


@dataclasses.dataclass(frozen=True)
class Runtime:
    """A library that runs engines.

    A new CPU runtime needs one class of engines, a subclass of `adq_edge.runtimes.cpu.CpuEngine` in a module
    or folder of its own, and one entry in `RUNTIMES` or one entry point.

    Attributes:
        name: name on the command line and in sidecars.
        label: name in messages.
        library: Python module of the library.
        engine: `module:class` of its engines.
        install: how to install it, an imperative sentence without a full stop.
        on_cpu: True if it runs on CPUs.
        suffix: suffix of its engine files; CPU runtimes with the same suffix read each other's engines.
        packages: names under which pip may have installed the library; results record the version.
        extra: the optional dependencies of adq-edge that install the library.
        is_emulation: True if its engines have the results of another runtime, but not its speed.
    """

    name: str
    label: str
    library: str
    engine: str
    install: str
    on_cpu: bool = True
    suffix: str = ".onnx"
    packages: Tuple[str, ...] = ()
    extra: Optional[str] = None
    is_emulation: bool = False

    def reads_engines_of(self, other: Runtime) -> bool:
        """Return True if this runtime loads engines that were built for another one."""
        is_emulated = self.is_emulation or other.is_emulation
        alike = self.on_cpu and other.on_cpu and self.suffix == other.suffix
        return self == other or (alike and not is_emulated)


ONNXRUNTIME = Runtime(
    "onnxruntime",
    "ONNX Runtime",
    library="onnxruntime",
    engine="adq_edge.runtimes.onnxruntime:OnnxRuntimeEngine",
    install="Install it: pip install onnxruntime",
    packages=("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino"),
)
OPENVINO = Runtime(
    "openvino",
    "OpenVINO",
    library="openvino",
    engine="adq_edge.runtimes.openvino:OpenVinoEngine",
    install="Install it: pip install openvino",
    packages=("openvino",),
    extra="openvino",
)
TENSORRT = Runtime(
    "tensorrt",
    "TensorRT",
    library="tensorrt",
    engine="adq_edge.runtimes.tensorrt.engine:TensorRTEngine",
    install="JetPack contains it for a Jetson: ./jetson_setup.sh makes a virtual environment that sees it. "
    "On a PC: pip install 'adq-edge[tensorrt]'",
    on_cpu=False,
    suffix=".plan",
    extra="tensorrt",
)
TENSORRT_RTX = Runtime(
    "tensorrt-rtx",
    "TensorRT-RTX",
    library="tensorrt_rtx",
    engine="adq_edge.runtimes.tensorrt.engine:TensorRTEngine",
    install="Install it: pip install 'adq-edge[rtx]'",
    on_cpu=False,
    suffix=".plan",
    extra="rtx",
)
TENSORRT_EMULATION = Runtime(
    "tensorrt-emulation",
    "the emulation of TensorRT",
    library="onnxruntime",
    engine="adq_edge.runtimes.emulation:EmulatedEngine",
    install=ONNXRUNTIME.install,
    is_emulation=True,
)

RUNTIMES: Dict[str, Runtime] = {
    runtime.name: runtime for runtime in (ONNXRUNTIME, OPENVINO, TENSORRT, TENSORRT_RTX, TENSORRT_EMULATION)
}
"""The runtimes of adq-edge; `registered_runtimes` has those of installed packages too."""


def registered_runtimes() -> Dict[str, Runtime]:
    """Return all runtimes by name; one whose package cannot be loaded is left out."""
    found = dict(RUNTIMES)
    for name in runtime_names():
        with contextlib.suppress(AdqError):
            found[name] = find_runtime(name)
    return found


def runtime_names() -> Tuple[str, ...]:
    """Return the names of all runtimes, those of adq-edge first."""
    from adq_edge.core.plugins import plugin_names  # reads the metadata of all packages: not for --help

    return (*RUNTIMES, *(name for name in plugin_names(GROUP, {}) if name not in RUNTIMES))


def find_runtime(name: str) -> Runtime:
    """Return a runtime by its name.

    Raises:
        AdqError: there is no runtime of this name, or its package cannot be loaded.
    """
    if name in RUNTIMES:
        return RUNTIMES[name]
    if name not in runtime_names():
        raise AdqError(f"{name!r} is not a runtime", fix=f"Use one of: {', '.join(runtime_names())}")
    from adq_edge.core.plugins import load_factory

    found: object = load_factory("runtime", name, GROUP, {}, AdqError)
    if not isinstance(found, Runtime) or found.name != name:
        what = f"the package of runtime {name!r} does not give a Runtime of this name"
        raise AdqError(what, fix=f"Repair its entry point in the group {GROUP}")
    return found


TELEMETRY = "openvino_telemetry"


def refuse_telemetry() -> None:
    """Let OpenVINO send no usage data.

    Its import would fork this process and call a server on the internet. In a plant without internet, the end
    of this process then waits for that call. OpenVINO works as well without this package.
    """
    sys.modules.setdefault(TELEMETRY, None)  # type: ignore[arg-type]  # an import of it fails then


def load_library(runtime: Runtime) -> Any:
    """Import the library of a runtime and return its module.

    Raises:
        MissingDependencyError: the library is not installed or cannot be loaded.
    """
    if runtime is OPENVINO:
        refuse_telemetry()
    if runtime is ONNXRUNTIME and _ends_the_process():
        what = f"{runtime.label} 1.19 or earlier cannot start on Arm where /sys is hidden"
        raise MissingDependencyError(what, fix="Start the container with docker run -v /sys:/sys:ro")
    try:
        return importlib.import_module(runtime.library)
    except ModuleNotFoundError as error:
        what = f"{runtime.label} is not installed for this Python"
        raise MissingDependencyError(what, fix=runtime.install) from error
    except Exception as error:  # a library of another NumPy or Python may raise anything
        what = f"{runtime.label} is installed but cannot be loaded ({first_line(error)})"
        raise MissingDependencyError(what, fix="Run adq-edge doctor for the cause") from error


_PROCESSORS = Path("/sys/devices/system/cpu/possible")
_FIRST_WITHOUT_SYS = (1, 20)


def _ends_the_process() -> bool:
    """Return True if ONNX Runtime would end this process: earlier releases need /sys on Arm."""
    if platform.machine() not in ("aarch64", "arm64") or sys.platform != "linux" or _PROCESSORS.exists():
        return False
    from importlib import metadata

    with contextlib.suppress(metadata.PackageNotFoundError, ValueError):
        numbers = metadata.version("onnxruntime").split(".")[:2]
        return tuple(map(int, numbers)) < _FIRST_WITHOUT_SYS
    return False
