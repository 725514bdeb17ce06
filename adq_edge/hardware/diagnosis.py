"""What adq-edge can do on a machine, and the one next thing to fix there."""

from __future__ import annotations

import dataclasses
import re
from typing import Optional, Tuple

from adq_edge.hardware.inventory import Inventory
from adq_edge.hardware.libraries import NOT_INSTALLED, Flavour, TensorRT

_CPU_LIBRARIES = ("numpy", "onnx", "onnxruntime", "opencv")
_OLDEST_TENSORRT = (8, 5)

# Boards whose last JetPack is 4: nothing can be fixed there.
_LEFT_BEHIND = ("tegra210", "tegra186")

# GPUs without INT8 arithmetic, by TensorRT's support matrix.
_WITHOUT_INT8 = ("5.0", "5.2", "5.3", "6.0", "6.2")

_LEAST_DISK_MB = 1000.0
_SMALL_MEMORY_MB = 9000.0
_SETUP = "./jetson_setup.sh"


@dataclasses.dataclass(frozen=True)
class Capability:
    """Something that adq-edge can or cannot do on a machine.

    Attributes:
        name: what it is.
        possible: whether it can be done.
        reason: with what, or why not.
    """

    name: str
    possible: bool
    reason: str


def judge(findings: Inventory) -> Tuple[Capability, ...]:
    """Say what adq-edge can do on a machine, and why or why not."""
    return (
        _onnxruntime(findings),
        _openvino(findings),
        _rtx(findings),
        _tensorrt(findings),
        _training(findings),
        _energy(findings),
    )


def next_step(findings: Inventory) -> Optional[str]:
    """Return the one next thing to fix; None where nothing is wrong."""
    steps = (
        _mend_library(findings),
        _old_jetpack(findings),
        _missing_driver(findings),
        _unusable_cuda(findings),
        _missing_tensorrt(findings),
        _missing_pycuda(findings),
        _full_disk(findings),
        _no_swap(findings),
        _low_power(findings),
    )
    return next((step for step in steps if step is not None), None)


def _onnxruntime(findings: Inventory) -> Capability:
    name = "CPU engines, ONNX Runtime"
    for library in map(findings.library, _CPU_LIBRARIES):
        if library.problem is not None:
            return Capability(name, False, f"{library.name}: {library.problem}")
    return Capability(name, True, f"onnxruntime {findings.library('onnxruntime').version}")


def _openvino(findings: Inventory) -> Capability:
    name, openvino, base = "CPU engines, OpenVINO", findings.library("openvino"), _onnxruntime(findings)
    if openvino.problem is not None:
        return Capability(name, False, f"OpenVINO: {openvino.problem}")
    return Capability(name, base.possible, f"openvino {openvino.version}" if base.possible else base.reason)


def _rtx(findings: Inventory) -> Capability:
    name, rtx = "TensorRT-RTX engines ahead of time, without a GPU", _pick(findings, Flavour.RTX)
    problem = f"TensorRT-RTX: {NOT_INSTALLED}" if rtx is None else rtx.problem
    if rtx is None or problem is not None:
        return Capability(name, False, problem or "")
    return Capability(name, True, f"TensorRT-RTX {rtx.version}")


def _tensorrt(findings: Inventory) -> Capability:
    problem, tensorrt = _tensorrt_problem(findings), _pick(findings, Flavour.TENSORRT)
    if problem is not None or tensorrt is None:
        return Capability("TensorRT engines", False, problem or "")
    capability = _capability(findings)
    reason = f"{_named(tensorrt)}, compute capability {capability or 'unknown'}"
    if capability in _WITHOUT_INT8:
        reason += ": FP32 and FP16 only, this GPU has no INT8 arithmetic"
    return Capability("TensorRT engines", True, reason)


def _tensorrt_problem(findings: Inventory) -> Optional[str]:
    tensorrt, pycuda = _pick(findings, Flavour.TENSORRT), findings.library("pycuda")
    if not findings.has_gpu:
        return "there is no NVIDIA GPU"
    if findings.cuda_problem is not None:
        return f"CUDA cannot be used: {findings.cuda_problem}"
    if tensorrt is None:
        return f"TensorRT: {NOT_INSTALLED}"
    if tensorrt.problem is not None:
        return f"{_named(tensorrt)}: {tensorrt.problem}"
    if _too_old(tensorrt):
        return f"{_named(tensorrt)} is older than 8.5"
    return None if pycuda.problem is None else f"pycuda: {pycuda.problem}"


def _training(findings: Inventory) -> Capability:
    torch = findings.library("torch")
    where = "; train on a workstation" if findings.jetson is not None else ""
    reason = f"torch {torch.version}" if torch.problem is None else f"torch: {torch.problem}{where}"
    return Capability("training and export", torch.problem is None, reason)


def _energy(findings: Inventory) -> Capability:
    sensors = findings.power_sensors
    reason = f"sensors: {', '.join(sensors)}" if sensors else "no power sensor that this user can read"
    return Capability("power and energy of a benchmark", bool(sensors), reason)


def _mend_library(findings: Inventory) -> Optional[str]:
    broken = [library for library in map(findings.library, _CPU_LIBRARIES) if library.problem is not None]
    if not broken:
        return None
    name, problem = broken[0].name, broken[0].problem or ""
    package = "opencv-python" if name == "opencv" else name
    if "libGL" in problem or "libgthread" in problem:
        return f"OpenCV {problem}. Install what it needs: sudo apt-get install libgl1 libglib2.0-0"
    if findings.jetson is not None:
        return f"{name}: {problem}. Run {_SETUP} again"
    again = "" if problem == NOT_INSTALLED else "--force-reinstall "
    return f"{name}: {problem}. Install it: pip install {again}{package}"


def _old_jetpack(findings: Inventory) -> Optional[str]:
    jetson = findings.jetson
    if jetson is None or _left_behind(findings) or not jetson.jetpack_too_old:
        return None
    return f"JetPack {jetson.jetpack} has no TensorRT 8.5. Flash the board with JetPack 5.1 or later"


def _missing_driver(findings: Inventory) -> Optional[str]:
    if findings.jetson is not None or not findings.card or findings.driver is not None:
        return None
    return "There is an NVIDIA card, but no driver for it is loaded. Install NVIDIA's driver"


def _unusable_cuda(findings: Inventory) -> Optional[str]:
    problem = findings.cuda_problem
    if not findings.has_gpu or _left_behind(findings) or problem is None:
        return None
    if findings.container:
        option = "--gpus all" if findings.jetson is None else "--runtime nvidia"
        return f"CUDA cannot be used in this container: {problem}. Start it with docker run {option}"
    if findings.jetson is not None:
        return f"CUDA cannot be used: {problem}. Check that you are in the group video, and JetPack's install"
    return f"CUDA cannot be used: {problem}. Install NVIDIA's driver again, then restart the machine"


def _missing_tensorrt(findings: Inventory) -> Optional[str]:
    tensorrt = _pick(findings, Flavour.TENSORRT)
    if not findings.has_gpu or _left_behind(findings):
        return None
    if tensorrt is not None and tensorrt.problem is None and not _too_old(tensorrt):
        return None
    fix = "Install it: pip install 'adq-edge[tensorrt]'" if findings.jetson is None else f"Run {_SETUP}"
    return f"{_tensorrt_problem(findings)}. {fix}"


def _missing_pycuda(findings: Inventory) -> Optional[str]:
    problem = findings.library("pycuda").problem
    if not findings.has_gpu or _left_behind(findings) or problem is None:
        return None
    if findings.jetson is not None:
        return f"pycuda: {problem}. Run {_SETUP}"
    if findings.toolkit.nvcc is None:
        return f"pycuda: {problem}. Install the CUDA toolkit, whose nvcc it is built with, then pycuda"
    return f"pycuda: {problem}. Install it: pip install --no-binary pycuda pycuda"


def _full_disk(findings: Inventory) -> Optional[str]:
    free = findings.disk_free_mb
    if free is None or free >= _LEAST_DISK_MB:
        return None
    return f"Only {free:.0f} MB are free on this disk. Free some space"


def _no_swap(findings: Inventory) -> Optional[str]:
    total, swap = findings.memory.total_mb, findings.memory.swap_mb
    if findings.jetson is None or total > _SMALL_MEMORY_MB or swap != 0:
        return None
    return (
        f"There is no swap beside {total / 1e3:.1f} GB of memory: builds may run out of it. Add 4 GB of swap"
    )


def _low_power(findings: Inventory) -> Optional[str]:
    power = findings.power
    if power is None or findings.container:
        return None
    fix = f"For figures to quote: {_SETUP} --max-performance"
    mode, highest = power.current, power.highest
    if mode is not None and highest is not None and mode.id != highest.id:
        return f"The power mode is {mode.name}, the highest is {highest.name}. {fix}"
    return f"The clocks are not locked. {fix}" if power.clocks_locked is False else None


def _pick(findings: Inventory, flavour: Flavour) -> Optional[TensorRT]:
    return next((found for found in findings.tensorrts if found.flavour is flavour), None)


def _named(tensorrt: TensorRT) -> str:
    return " ".join(filter(None, (tensorrt.flavour.value, tensorrt.version)))


def _too_old(tensorrt: TensorRT) -> bool:
    numbers = re.findall(r"\d+", tensorrt.version or "")[:2]
    return len(numbers) == 2 and tuple(map(int, numbers)) < _OLDEST_TENSORRT


def _capability(findings: Inventory) -> Optional[str]:
    told = next((gpu.compute_capability for gpu in findings.gpus), None)
    return told or (None if findings.jetson is None else findings.jetson.compute_capability)


def _left_behind(findings: Inventory) -> bool:
    return findings.jetson is not None and findings.jetson.soc in _LEFT_BEHIND
