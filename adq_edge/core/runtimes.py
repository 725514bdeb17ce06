"""The registered runtimes: the libraries that run engines. Importing this module imports none of them."""

from __future__ import annotations

import dataclasses
import importlib
from typing import Any, Dict, Optional, Tuple

from adq_edge.core.errors import AdqError, MissingDependencyError, first_line


@dataclasses.dataclass(frozen=True)
class Runtime:
    """A library that runs engines.

    A new CPU runtime needs one class of engines, a subclass of `adq_edge.runtimes.cpu.CpuEngine` in a module
    or folder of its own, and one entry in `RUNTIMES`.

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

    def reads_engines_of(self, other: Runtime) -> bool:
        """Return True if this runtime loads engines that were built for another one."""
        return self == other or (self.on_cpu and other.on_cpu and self.suffix == other.suffix)


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
    install="Install it: pip install 'adq-edge[openvino]'",
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

RUNTIMES: Dict[str, Runtime] = {
    runtime.name: runtime for runtime in (ONNXRUNTIME, OPENVINO, TENSORRT, TENSORRT_RTX)
}


def find_runtime(name: str) -> Runtime:
    """Return a runtime by its name.

    Raises:
        AdqError: there is no runtime of this name.
    """
    if name not in RUNTIMES:
        raise AdqError(f"{name!r} is not a runtime", fix=f"Use one of: {', '.join(RUNTIMES)}")
    return RUNTIMES[name]


def load_library(runtime: Runtime) -> Any:
    """Import the library of a runtime and return its module.

    Raises:
        MissingDependencyError: the library is not installed or cannot be loaded.
    """
    try:
        return importlib.import_module(runtime.library)
    except ModuleNotFoundError as error:
        what = f"{runtime.label} is not installed for this Python"
        raise MissingDependencyError(what, fix=runtime.install) from error
    except Exception as error:  # a library of another NumPy or Python may raise anything
        what = f"{runtime.label} is installed but cannot be loaded ({first_line(error)})"
        raise MissingDependencyError(what, fix="Run adq-edge doctor for the cause") from error
