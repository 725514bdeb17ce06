"""NVIDIA GPUs: the hardware, its driver, whether CUDA can be used from here, the CUDA toolkit."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import sys
from pathlib import Path
from typing import Any, List, Optional, Tuple

from adq_edge.hardware import cuda_probe
from adq_edge.hardware.commands import Runner, run_command
from adq_edge.hardware.procfs import read_text

_QUERY = "name,compute_cap,memory.total,driver_version"
_NVIDIA, _DISPLAY = "0x10de", "0x03"  # vendor and class of PCI devices


@dataclasses.dataclass(frozen=True)
class Gpu:
    """One GPU; None for what it does not tell.

    Attributes:
        name: its name.
        compute_capability: `8.6` for one.
        memory_mb: its memory in MB (10^6 bytes); on a Jetson, which shares it with the CPU, all of it.
    """

    name: str
    compute_capability: Optional[str]
    memory_mb: Optional[float]


@dataclasses.dataclass(frozen=True)
class NvidiaSmi:
    """What nvidia-smi says: the GPUs, and the driver's version; nothing where there is no nvidia-smi."""

    gpus: Tuple[Gpu, ...] = ()
    driver: Optional[str] = None


@dataclasses.dataclass(frozen=True)
class CudaDriver:
    """What the CUDA driver lets this user do: the GPUs, or the problem with it."""

    gpus: Tuple[Gpu, ...] = ()
    problem: Optional[str] = None


@dataclasses.dataclass(frozen=True)
class Toolkit:
    """The CUDA toolkit; None for parts that are not there.

    Attributes:
        version: `11.4` for one.
        nvcc: path of its compiler, which pycuda is built with.
    """

    version: Optional[str]
    nvcc: Optional[str]


def card_present(root: Path = Path("/")) -> bool:
    """Return whether there is an NVIDIA graphics card, with or without a driver for it."""
    for device in (root / "sys" / "bus" / "pci" / "devices").glob("*"):
        if read_text(device / "vendor") == _NVIDIA and read_text(device / "class").startswith(_DISPLAY):
            return True
    return False


def graphics_cards(root: Path = Path("/"), run: Runner = run_command) -> Tuple[str, ...]:
    """Return the names of the graphics cards that a driver runs; empty without one, and on a Jetson.

    Args:
        root: where `proc` and `sys` are.
        run: how nvidia-smi is asked, where there is a card but the driver's own files do not name it.
    """
    files = sorted((root / "proc" / "driver" / "nvidia" / "gpus").glob("*/information"))
    told = [re.search(r"^Model:\s*(\S.*)$", read_text(file), re.MULTILINE) for file in files]
    names = tuple(found.group(1).strip() for found in told if found is not None)
    if names or not card_present(root):
        return names
    return tuple(gpu.name for gpu in ask_nvidia_smi(run).gpus)


def kernel_driver(root: Path = Path("/")) -> Optional[str]:
    """Return the version of the NVIDIA driver that the kernel has loaded; None where it has none."""
    text = read_text(root / "proc" / "driver" / "nvidia" / "version")
    found = re.search(r"Kernel Module\s+(?:for \S+\s+)?(\d[\d.]*)", text)
    return None if found is None else found.group(1)


def ask_nvidia_smi(run: Runner = run_command) -> NvidiaSmi:
    """Ask nvidia-smi; older ones do not know the compute capability, and then nothing is known."""
    answer = run(["nvidia-smi", f"--query-gpu={_QUERY}", "--format=csv,noheader"])
    if answer.problem is not None:
        return NvidiaSmi()
    rows = [[cell.strip() for cell in line.split(",")] for line in answer.output.splitlines()]
    rows = [row for row in rows if len(row) == len(_QUERY.split(","))]
    gpus = tuple(Gpu(name, _number(capability), _megabytes(size)) for name, capability, size, _ in rows)
    return NvidiaSmi(gpus, _number(rows[0][-1]) if rows else None)


def ask_cuda_driver(run: Runner = run_command) -> CudaDriver:
    """Ask the CUDA driver, in a process of its own, which GPUs may be used from here."""
    answer = run([sys.executable, str(Path(cuda_probe.__file__).resolve())])
    if answer.problem is not None:
        return CudaDriver(problem=f"the program that asks it {answer.problem}")
    try:
        document = json.loads(answer.output)
        gpus = tuple(Gpu(**gpu) for gpu in document.get("devices", ()))
    except (ValueError, TypeError, AttributeError):
        return CudaDriver(problem="its answer makes no sense")
    problem = document.get("error")
    return CudaDriver(gpus, problem if gpus or problem else "it knows of no GPU")


def find_toolkit(root: Path = Path("/"), run: Runner = run_command) -> Toolkit:
    """Find the CUDA toolkit: in its usual folder, else by an nvcc on the search path.

    Args:
        root: where `usr/local/cuda` is.
        run: how nvcc is asked for its version, where no file tells.
    """
    folder = root / "usr" / "local" / "cuda"
    nvcc: List[str] = [str(folder / "bin" / "nvcc")] if (folder / "bin" / "nvcc").is_file() else ["nvcc"]
    answer = run([*nvcc, "--version"])
    compiler = nvcc[0] if answer.problem is None else None
    told = re.search(r"release (\d+\.\d+)", answer.output)
    return Toolkit(_toolkit_version(folder) or (None if told is None else told.group(1)), compiler)


def _toolkit_version(folder: Path) -> Optional[str]:
    text = read_text(folder / "version.json")
    with contextlib.suppress(ValueError, KeyError, TypeError):
        return _two_numbers(json.loads(text)["cuda"]["version"])
    return _two_numbers(read_text(folder / "version.txt"))


def _two_numbers(text: Any) -> Optional[str]:
    found = re.search(r"\d+\.\d+", str(text))
    return None if found is None else found.group(0)


def _number(cell: str) -> Optional[str]:
    """Return a cell of nvidia-smi that holds a number; it writes `[N/A]` for what it does not know."""
    return cell if re.match(r"\d", cell) else None


def _megabytes(cell: str) -> Optional[float]:
    found = re.match(r"(\d+) MiB", cell)
    return None if found is None else int(found.group(1)) * 2**20 / 1e6
