"""NVIDIA GPUs: the hardware, its driver, whether CUDA is usable, and the CUDA toolkit."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import sys
from pathlib import Path
from typing import Any, Optional, Pattern, Tuple

from adq_edge.hardware import cuda_probe
from adq_edge.hardware.commands import Runner, run_command
from adq_edge.hardware.procfs import first_group, read_text

_QUERY = "name,compute_cap,memory.total,driver_version"
_CAPABILITY, _VERSION = re.compile(r"\d{1,2}\.\d", re.ASCII), re.compile(r"\d{1,6}(?:\.\d{1,6})*", re.ASCII)
_NVIDIA, _DISPLAY = "0x10de", "0x03"  # vendor and class of PCI devices


@dataclasses.dataclass(frozen=True)
class Gpu:
    """A GPU; None for an unknown value.

    Attributes:
        compute_capability: such as `8.6`.
        memory_mb: its memory in MB (10^6 bytes); on a Jetson the whole memory, which CPU and GPU share.
    """

    name: str
    compute_capability: Optional[str]
    memory_mb: Optional[float]


@dataclasses.dataclass(frozen=True)
class NvidiaSmi:
    """Answer of nvidia-smi: GPUs and driver version; empty if nvidia-smi is not installed."""

    gpus: Tuple[Gpu, ...] = ()
    driver: Optional[str] = None


@dataclasses.dataclass(frozen=True)
class CudaDriver:
    """Answer of the CUDA driver: the GPUs that this user can use, the problem, or why it gave no answer."""

    gpus: Tuple[Gpu, ...] = ()
    problem: Optional[str] = None
    unchecked: Optional[str] = None


@dataclasses.dataclass(frozen=True)
class Toolkit:
    """The CUDA toolkit; None for a part that is not installed.

    Attributes:
        version: such as `11.4`.
        nvcc: path of its compiler, which builds pycuda.
    """

    version: Optional[str]
    nvcc: Optional[str]


def card_present(root: Path = Path("/")) -> bool:
    """Return True if this machine has an NVIDIA graphics card, with or without a driver."""
    return any(
        read_text(device / "vendor") == _NVIDIA and read_text(device / "class").startswith(_DISPLAY)
        for device in (root / "sys" / "bus" / "pci" / "devices").glob("*")
    )


def graphics_cards(root: Path = Path("/"), run: Runner = run_command) -> Tuple[str, ...]:
    """Return the names of the graphics cards with a loaded driver; empty on a Jetson.

    Runs nvidia-smi only if a card is present and the files of the driver list none.
    """
    files = sorted((root / "proc" / "driver" / "nvidia" / "gpus").glob("*/information"))
    models = (first_group(r"^Model:\s*(\S.*)$", read_text(file)) for file in files)
    names = tuple(model.strip() for model in models if model is not None)
    if names or not card_present(root):
        return names
    return tuple(gpu.name for gpu in ask_nvidia_smi(run).gpus)


def kernel_driver(root: Path = Path("/")) -> Optional[str]:
    """Return the version of the loaded NVIDIA driver; None without one."""
    text = read_text(root / "proc" / "driver" / "nvidia" / "version")
    return first_group(r"Kernel Module\s+(?:for \S+\s+)?(\d[\d.]*)", text)


def ask_nvidia_smi(run: Runner = run_command) -> NvidiaSmi:
    """Query the GPUs with nvidia-smi; empty if it does not support `compute_cap`."""
    answer = run(["nvidia-smi", f"--query-gpu={_QUERY}", "--format=csv,noheader"])
    if answer.problem is not None:
        return NvidiaSmi()
    rows = [[cell.strip() for cell in line.split(",")] for line in answer.output.splitlines()]
    rows = [row for row in rows if len(row) == len(_QUERY.split(","))]
    gpus = tuple(
        Gpu(name, _match(_CAPABILITY, capability), _megabytes(size)) for name, capability, size, _ in rows
    )
    return NvidiaSmi(gpus, _match(_VERSION, rows[0][-1]) if rows else None)


def ask_cuda_driver(run: Runner = run_command) -> CudaDriver:
    """Ask the CUDA driver, in a separate process, for the GPUs that this user can use."""
    answer = run([sys.executable, str(Path(cuda_probe.__file__).resolve())])
    if answer.is_shortage:
        return CudaDriver(unchecked=f"the CUDA probe {answer.problem}")
    if answer.problem is not None:
        return CudaDriver(problem=f"the CUDA probe {answer.problem}")
    try:
        answered = _answer_from(json.loads(answer.output.strip().splitlines()[-1]))  # a driver may print more
    except (ValueError, TypeError, AttributeError, KeyError, IndexError, RecursionError):
        return CudaDriver(problem="the CUDA probe's output is not valid")
    return answered


def _answer_from(document: Any) -> CudaDriver:
    gpus = tuple(
        Gpu(str(gpu["name"]), _match(_CAPABILITY, gpu["compute_capability"]), float(gpu["memory_mb"]))
        for gpu in document.get("devices", ())
    )
    if gpus:
        return CudaDriver(gpus)
    return CudaDriver(problem=str(document.get("error") or "it reports no GPU"))


def find_toolkit(root: Path = Path("/"), run: Runner = run_command) -> Toolkit:
    """Find the CUDA toolkit in its default folder, else through nvcc on PATH."""
    folder = root / "usr" / "local" / "cuda"
    nvcc = str(folder / "bin" / "nvcc") if (folder / "bin" / "nvcc").is_file() else "nvcc"
    answer = run([nvcc, "--version"])
    version = _toolkit_version(folder) or first_group(r"release (\d+\.\d+)", answer.output)
    return Toolkit(version, nvcc if answer.problem is None or answer.is_shortage else None)


def _toolkit_version(folder: Path) -> Optional[str]:
    text = read_text(folder / "version.txt")
    with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
        text = str(json.loads(read_text(folder / "version.json"))["cuda"]["version"])
    return first_group(r"(\d+\.\d+)", text)


def _match(form: Pattern[str], cell: str) -> Optional[str]:
    """Return the cell if it has the form; nvidia-smi writes `[N/A]` for an unknown value."""
    return cell if form.fullmatch(cell) else None


def _megabytes(cell: str) -> Optional[float]:
    mebibytes = first_group(r"^(\d{1,9}) MiB$", cell)
    return None if mebibytes is None else int(mebibytes) * 2**20 / 1e6
