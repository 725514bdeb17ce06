"""Inventory of a machine: the hardware and software that decide what adq-edge can do there."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Dict, NamedTuple, Optional, Tuple

from adq_edge.core.limits import MemoryLimit, memory_limit
from adq_edge.core.runtimes import registered_runtimes
from adq_edge.hardware.commands import Runner, run_command
from adq_edge.hardware.environment import Environment, read_environment
from adq_edge.hardware.gpu import (
    Gpu,
    Toolkit,
    ask_cuda_driver,
    ask_nvidia_smi,
    card_present,
    find_toolkit,
    kernel_driver,
)
from adq_edge.hardware.jetson import Jetson, read_jetson
from adq_edge.hardware.libraries import Library, TensorRT, check_library, distribution_version, find_tensorrts
from adq_edge.hardware.memory import Memory, read_memory
from adq_edge.hardware.power import Power, read_power
from adq_edge.hardware.telemetry.rails import power_sensors


class _Module(NamedTuple):
    """The module of a library, and whether to load it: some libraries take seconds."""

    name: str
    load: bool


_LIBRARIES: Dict[str, _Module] = {
    "numpy": _Module("numpy", load=False),  # the next three import it
    "onnx": _Module("onnx", load=True),
    "onnxruntime": _Module("onnxruntime", load=True),
    "opencv": _Module("cv2", load=True),
    "polygraphy": _Module("polygraphy", load=False),
    "pycuda": _Module("pycuda.driver", load=True),
    "torch": _Module("torch", load=False),
}


@dataclasses.dataclass(frozen=True)
class Inventory:
    """Hardware and software of a machine; None or empty for an absent or unreported part.

    Attributes:
        disk_free_mb: free space of the current folder's disk in MB (10^6 bytes).
        container: whether this process runs in a container.
        card: whether there is an NVIDIA graphics card, with or without a driver.
        driver: version of the loaded NVIDIA driver.
        cuda_problem: why this process cannot use CUDA; None if it can, or if that is unknown.
        cuda_unchecked: why it is unknown whether this process can use CUDA, for example on a busy machine.
        memory_limit: memory limit of the container; None without one.
        is_sys_hidden: whether /sys is absent or empty, as in some containers.
        libraries: Python libraries, installed or not.
        power_sensors: the readable power sensors.
    """

    environment: Environment
    jetson: Optional[Jetson]
    power: Optional[Power]
    memory: Optional[Memory]
    disk_free_mb: Optional[float]
    container: bool
    card: bool
    driver: Optional[str]
    gpus: Tuple[Gpu, ...]
    cuda_problem: Optional[str]
    toolkit: Toolkit
    tensorrts: Tuple[TensorRT, ...]
    libraries: Tuple[Library, ...]
    power_sensors: Tuple[str, ...]
    cuda_unchecked: Optional[str] = None
    memory_limit: Optional[MemoryLimit] = None
    is_sys_hidden: bool = False

    @property
    def has_gpu(self) -> bool:
        """True if there is an NVIDIA GPU, usable or not."""
        return self.jetson is not None or self.card or self.driver is not None or bool(self.gpus)

    def library(self, name: str) -> Library:
        """Return the entry of a library."""
        return next(library for library in self.libraries if library.name == name)


def take_inventory(root: Path = Path("/"), run: Runner = run_command) -> Inventory:
    """Take the inventory of this machine."""
    environment, jetson = read_environment(root, run), read_jetson(root)
    with ThreadPoolExecutor(max_workers=4) as pool:  # the programs take most of their time to start
        tensorrts = pool.submit(find_tensorrts, root, run)
        libraries = [
            pool.submit(_check, name, module, environment.packages.get(name), run)
            for name, module in {**_cpu_runtimes(), **_LIBRARIES}.items()
        ]
        smi, cuda = pool.submit(ask_nvidia_smi, run), pool.submit(ask_cuda_driver, run)
        toolkit = pool.submit(find_toolkit, root, run)
    meter = ("nvidia-smi",) if jetson is None and smi.result().gpus else ()
    return Inventory(
        environment=environment,
        jetson=jetson,
        power=None if jetson is None else read_power(root, run),
        memory=read_memory(),
        disk_free_mb=_disk_free_mb(Path.cwd()),
        container=any((root / mark).exists() for mark in (".dockerenv", "run/.containerenv")),
        card=card_present(root),
        driver=kernel_driver(root) or smi.result().driver,
        gpus=cuda.result().gpus or smi.result().gpus,
        cuda_problem=cuda.result().problem,
        toolkit=toolkit.result(),
        tensorrts=tensorrts.result(),
        libraries=tuple(library.result() for library in libraries),
        power_sensors=(*power_sensors(root), *meter),
        cuda_unchecked=cuda.result().unchecked,
        memory_limit=memory_limit(root),
        is_sys_hidden=not any((root / "sys").glob("*")),
    )


def _cpu_runtimes() -> Dict[str, _Module]:
    runtimes = registered_runtimes()
    own = {name: one for name, one in runtimes.items() if one.on_cpu and not one.is_emulation}
    return {name: _Module(one.library, load=False) for name, one in own.items()}


def _check(name: str, module: _Module, version: Optional[str], run: Runner) -> Library:
    return check_library(
        name, module.name, version or distribution_version(name), run if module.load else None
    )


def _disk_free_mb(folder: Path) -> Optional[float]:
    with contextlib.suppress(OSError):
        return shutil.disk_usage(str(folder)).free / 1e6
    return None
