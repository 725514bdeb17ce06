"""Description of the machine and its software, read without importing a large library."""

from __future__ import annotations

import contextlib
import dataclasses
import platform
import re
import socket
from importlib import metadata
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

from adq_edge.core.limits import count_cores, cpu_quota, usable_processors
from adq_edge.core.runtimes import registered_runtimes
from adq_edge.hardware.commands import Runner, run_command
from adq_edge.hardware.gpu import find_toolkit, graphics_cards
from adq_edge.hardware.jetson import read_jetson
from adq_edge.hardware.memory import read_memory
from adq_edge.hardware.power import read_power
from adq_edge.hardware.procfs import first_group, read_text

INSTRUCTION_SETS = (
    *("sse4_2", "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    *("amx_int8", "amx_bf16", "amx_fp16"),
    *("neon", "asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2"),
)
"""Instruction sets that decide the speed of convolutions, by their names in /proc/cpuinfo."""

ARM_CORES = {
    ("0x41", "0xd03"): "Arm Cortex-A53",
    ("0x41", "0xd07"): "Arm Cortex-A57",
    ("0x41", "0xd08"): "Arm Cortex-A72",
    ("0x41", "0xd0b"): "Arm Cortex-A76",
    ("0x41", "0xd0c"): "Arm Neoverse-N1",
    ("0x41", "0xd40"): "Arm Neoverse-V1",
    ("0x41", "0xd42"): "Arm Cortex-A78AE",
    ("0x41", "0xd4f"): "Arm Neoverse-V2",
    ("0x4e", "0x003"): "NVIDIA Denver 2",
    ("0x4e", "0x004"): "NVIDIA Carmel",
}
"""Names of Arm cores by (implementer, part), which /proc/cpuinfo has."""

_PACKAGES = {
    "numpy": ("numpy",),
    "onnx": ("onnx",),
    "opencv": (
        *("opencv-python", "opencv-python-headless"),
        *("opencv-contrib-python", "opencv-contrib-python-headless"),
    ),
}

# Host names that do not identify a machine: the default name, and random names of containers.
_GENERIC_NAME = re.compile(r"localhost(?:\..*)?|[0-9a-f]{12}|[0-9a-f]{64}")


@dataclasses.dataclass(frozen=True)
class Environment:
    """The machine and the software; None for a value that the system does not provide.

    Attributes:
        cpu: model of the processor, or its architecture if the model is unknown.
        architecture: result of `platform.machine()`.
        board: model of the board, for example a Jetson; None on a PC.
        instruction_sets: instruction sets that affect the speed of convolutions, named as in /proc/cpuinfo.
        logical_cores: logical processors that this process may use.
        physical_cores: physical cores of these processors.
        cpu_quota: CPU time that a container may use, in cores; None without a limit.
        memory_mb: memory of the machine in MB (10^6 bytes).
        os: name and version of the distribution.
        packages: version of each installed library that affects the results.
        gpu: NVIDIA graphics cards; None without a card and on a Jetson, whose GPU is part of the board.
        power_mode: nvpmodel mode of a Jetson, such as `MODE_20W_6CORE`; None on other machines.
        host: host name, which distinguishes boards of one model; None for a generic name (`localhost`).
        l4t: release of Jetson Linux, such as `35.4.1`; None on other machines.
        cuda: version of a Jetson's CUDA toolkit, such as `11.4`.
    """

    cpu: str
    architecture: str
    board: Optional[str]
    instruction_sets: Tuple[str, ...]
    logical_cores: int
    physical_cores: Optional[int]
    cpu_quota: Optional[float]
    memory_mb: Optional[float]
    os: str
    kernel: str
    python: str
    packages: Dict[str, str]
    gpu: Optional[str] = None
    power_mode: Optional[str] = None
    host: Optional[str] = None
    l4t: Optional[str] = None
    jetpack: Optional[str] = None
    cuda: Optional[str] = None


@dataclasses.dataclass(frozen=True)
class Cpu:
    """The model of a processor, None if unknown, and the instruction sets that all its cores have."""

    model: Optional[str]
    instruction_sets: Tuple[str, ...]


def read_cpu(root: Path = Path("/")) -> Cpu:
    """Read model and instruction sets of the processor."""
    blocks = _cpu_blocks(root / "proc" / "cpuinfo")
    return Cpu(_cpu_model(blocks), _instruction_sets(blocks))


def read_environment(root: Path = Path("/"), run: Runner = run_command) -> Environment:
    """Describe this machine; run nvpmodel, nvcc and nvidia-smi for values that no file contains."""
    cpu = read_cpu(root)
    logical = usable_processors()
    board = read_text(root / "proc" / "device-tree" / "model") or None
    mode = None if board is None else read_power(root, run).current
    jetson, memory = read_jetson(root), read_memory()
    return Environment(
        cpu=cpu.model or platform.machine() or "unknown",
        architecture=platform.machine(),
        board=board,
        instruction_sets=cpu.instruction_sets,
        logical_cores=len(logical),
        physical_cores=count_cores(logical, root),
        cpu_quota=cpu_quota(root),
        memory_mb=None if memory is None else memory.total_mb,
        os=_os_name(root / "etc" / "os-release"),
        kernel=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        packages=_package_versions(),
        gpu=" + ".join(graphics_cards(root, run)) or None,
        power_mode=None if mode is None else mode.name,
        host=_host(),
        l4t=None if jetson is None else jetson.l4t,
        jetpack=None if jetson is None else jetson.jetpack,
        cuda=None if jetson is None else find_toolkit(root, run).version,
    )


def _host() -> Optional[str]:
    name = socket.gethostname()
    return None if not name or _GENERIC_NAME.fullmatch(name) else name


def _cpu_blocks(cpuinfo: Path) -> List[Dict[str, str]]:
    """Return one dictionary for each processor in /proc/cpuinfo."""
    blocks = []
    for block in read_text(cpuinfo).split("\n\n"):
        pairs = (line.partition(":") for line in block.splitlines() if ":" in line)
        blocks.append({key.strip(): value.strip() for key, _, value in pairs})
    return [block for block in blocks if block]


def _cpu_model(blocks: Sequence[Dict[str, str]]) -> Optional[str]:
    models: List[str] = []
    for block in blocks:
        # On Arm, the model name is that of the instruction set, such as "ARMv8 Processor rev 0 (v8l)".
        model = _arm_core(block) or block.get("model name")
        if model is not None and model not in models:
            models.append(model)
    return " + ".join(models) or None


def _arm_core(block: Dict[str, str]) -> Optional[str]:
    implementer, part = block.get("CPU implementer"), block.get("CPU part")
    if implementer is None or part is None:
        return None
    return ARM_CORES.get((implementer, part), f"Arm implementer {implementer} part {part}")


def _instruction_sets(blocks: Sequence[Dict[str, str]]) -> Tuple[str, ...]:
    """Return the instruction sets that every core has; little cores may lack some of the big cores' sets."""
    lists = [block.get("flags") or block.get("Features") for block in blocks]
    flags = [set(names.split()) for names in lists if names]
    return tuple(name for name in INSTRUCTION_SETS if flags and all(name in core for core in flags))


def _os_name(os_release: Path) -> str:
    name = first_group(r"""^PRETTY_NAME=["']?([^"'\n]+)""", read_text(os_release))
    return name or f"{platform.system()} {platform.release()}"


def _package_versions() -> Dict[str, str]:
    versions: Dict[str, str] = {}
    runtimes = {runtime.name: runtime.packages for runtime in registered_runtimes().values()}
    for name, distributions in [*_PACKAGES.items(), *runtimes.items()]:
        for distribution in distributions:
            with contextlib.suppress(metadata.PackageNotFoundError):
                versions.setdefault(name, metadata.version(distribution))
    return versions
