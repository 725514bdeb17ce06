"""What is found on a machine that decides what adq-edge can do there."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Dict, NamedTuple, Optional, Tuple

from adq_edge.hardware.commands import Runner, run_command
from adq_edge.hardware.environment import Environment, read_environment
from adq_edge.hardware.gpu import (
    CudaDriver,
    Gpu,
    NvidiaSmi,
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
from adq_edge.hardware.telemetry.sensors import power_sensors


class _Wanted(NamedTuple):
    """A library to look for; one that takes seconds to load is not loaded."""

    module: str
    load: bool


_LIBRARIES: Dict[str, _Wanted] = {
    "numpy": _Wanted("numpy", load=False),  # the next three load it
    "onnx": _Wanted("onnx", load=True),
    "onnxruntime": _Wanted("onnxruntime", load=True),
    "opencv": _Wanted("cv2", load=True),
    "polygraphy": _Wanted("polygraphy", load=False),
    "openvino": _Wanted("openvino", load=False),
    "pycuda": _Wanted("pycuda.driver", load=True),
    "torch": _Wanted("torch", load=False),
}


@dataclasses.dataclass(frozen=True)
class Inventory:
    """A machine; None, or nothing, for what it does not have or does not tell.

    Attributes:
        environment: processor, system and Python.
        jetson: the Jetson that this is.
        power: how a Jetson's power is set.
        memory: memory and swap.
        disk_free_mb: free space where adq-edge was started, in MB (10^6 bytes).
        container: whether this is inside a container.
        card: whether there is an NVIDIA graphics card, with or without a driver.
        driver: version of the NVIDIA driver that is loaded.
        gpus: NVIDIA's GPUs.
        cuda_problem: why CUDA cannot be used from here; None where it can.
        toolkit: the CUDA toolkit.
        tensorrts: TensorRT and TensorRT-RTX.
        libraries: Python libraries, installed or not.
        power_sensors: power sensors that can be read.
    """

    environment: Environment
    jetson: Optional[Jetson]
    power: Optional[Power]
    memory: Memory
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

    @property
    def has_gpu(self) -> bool:
        """Whether there is an NVIDIA GPU, usable or not."""
        return self.jetson is not None or self.card or self.driver is not None or bool(self.gpus)

    def library(self, name: str) -> Library:
        """Return what was found of a library."""
        return next(library for library in self.libraries if library.name == name)


class _Asked(NamedTuple):
    """What other programs were asked, all at once."""

    smi: NvidiaSmi
    cuda: CudaDriver
    toolkit: Toolkit
    tensorrts: Tuple[TensorRT, ...]
    libraries: Tuple[Library, ...]


def examine(root: Path = Path("/"), run: Runner = run_command) -> Inventory:
    """Examine this machine.

    Args:
        root: where `proc`, `sys`, `etc`, `usr` and `var` are.
        run: how programs are run that tell about the machine.
    """
    environment = read_environment(root, run)
    jetson = read_jetson(root)
    asked = _ask(root, run, environment.packages)
    meter = () if jetson is not None or not asked.smi.gpus else ("nvidia-smi",)
    return Inventory(
        environment=environment,
        jetson=jetson,
        power=None if jetson is None else read_power(root, run),
        memory=read_memory(),
        disk_free_mb=_disk_free_mb(Path.cwd()),
        container=any((root / mark).exists() for mark in (".dockerenv", "run/.containerenv")),
        card=card_present(root),
        driver=kernel_driver(root) or asked.smi.driver,
        gpus=asked.cuda.gpus or asked.smi.gpus,
        cuda_problem=asked.cuda.problem,
        toolkit=asked.toolkit,
        tensorrts=asked.tensorrts,
        libraries=asked.libraries,
        power_sensors=(*power_sensors(root), *meter),
    )


def _ask(root: Path, run: Runner, versions: Dict[str, str]) -> _Asked:
    """Ask all programs side by side: each spends its time starting."""
    with ThreadPoolExecutor(max_workers=4) as pool:
        tensorrts = pool.submit(find_tensorrts, root, run)
        libraries = [
            pool.submit(
                check_library,
                name,
                wanted.module,
                versions.get(name) or distribution_version(name),
                run if wanted.load else None,
            )
            for name, wanted in _LIBRARIES.items()
        ]
        smi, cuda = pool.submit(ask_nvidia_smi, run), pool.submit(ask_cuda_driver, run)
        toolkit = pool.submit(find_toolkit, root, run)
        return _Asked(
            smi.result(),
            cuda.result(),
            toolkit.result(),
            tensorrts.result(),
            tuple(library.result() for library in libraries),
        )


def _disk_free_mb(folder: Path) -> Optional[float]:
    with contextlib.suppress(OSError):
        return shutil.disk_usage(str(folder)).free / 1e6
    return None
