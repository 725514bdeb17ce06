"""Conclusions from an inventory: what adq-edge can do on a machine, and the next thing to fix."""

from __future__ import annotations

import dataclasses
import re
from typing import Iterator, Optional, Tuple

from adq_edge.core.options import Target, cpu_target
from adq_edge.core.runtimes import ONNXRUNTIME, OPENVINO, Runtime, registered_runtimes
from adq_edge.hardware.inventory import Inventory
from adq_edge.hardware.libraries import NOT_INSTALLED, Library, Product, TensorRT

TRAINING = "training and export"
"""Name of the capability that needs torch."""

_CPU_LIBRARIES = ("numpy", "onnx", "onnxruntime", "opencv")
_MIN_TENSORRT = (8, 5)

# Boards whose last JetPack is 4, which has no TensorRT 8.5.
_JETPACK_4_BOARDS = ("tegra210", "tegra186")

# Compute capabilities without INT8 arithmetic, from TensorRT's support matrix.
_WITHOUT_INT8 = ("5.0", "5.2", "5.3", "6.0", "6.2")

_MIN_DISK_MB = 1000.0
_SMALL_MEMORY_MB = 9000.0
_SETUP = "./jetson_setup.sh"
_SHOW_SYS = "Start the container with docker run -v /sys:/sys:ro"


@dataclasses.dataclass(frozen=True)
class Capability:
    """Availability of one function of adq-edge on a machine.

    Attributes:
        name: the function.
        possible: whether it is available; None if a check could not be finished.
        reason: the software or sensors it uses, or why it is not available.
    """

    name: str
    possible: Optional[bool]
    reason: str


def find_capabilities(inventory: Inventory) -> Tuple[Capability, ...]:
    """Return what adq-edge can and cannot do on a machine, with reasons."""
    torch = inventory.library("torch")
    elsewhere = "" if inventory.jetson is None else "; train on a workstation"
    return (
        *(
            _cpu_capability(inventory, runtime)
            for runtime in registered_runtimes().values()
            if runtime.on_cpu and not runtime.is_emulation
        ),
        _rtx_capability(inventory),
        _tensorrt_capability(inventory),
        _capability(
            TRAINING,
            None if torch.problem is None else f"torch: {torch.problem}{elsewhere}",
            f"torch {torch.version}",
        ),
        _capability(
            "power and energy of a benchmark",
            None if inventory.power_sensors else _why_no_sensor(inventory),
            f"sensors: {', '.join(inventory.power_sensors)}",
        ),
    )


def _why_no_sensor(inventory: Inventory) -> str:
    return "/sys is hidden" if inventory.is_sys_hidden else "no power sensor that this user can read"


def next_step(inventory: Inventory) -> Optional[str]:
    """Return the next thing to fix; None if there is nothing."""
    checks = [_hidden_sys, _broken_library]
    if inventory.has_gpu and not _stays_on_jetpack_4(inventory):
        checks += [_old_jetpack, _missing_driver, _unusable_cuda, _missing_tensorrt, _missing_pycuda]
    checks += [_full_disk, _no_swap, _low_power, _unfinished_check]
    return next((step for step in (check(inventory) for check in checks) if step is not None), None)


def _capability(
    name: str, problem: Optional[str], reason: str, unchecked: Optional[str] = None
) -> Capability:
    if problem is None and unchecked is not None:
        return Capability(name, None, unchecked)
    return Capability(name, problem is None, reason if problem is None else problem)


def _cpu_capability(inventory: Inventory, runtime: Runtime) -> Capability:
    libraries = [inventory.library(name) for name in (*_CPU_LIBRARIES, runtime.name)]
    problems = (f"{library.name}: {library.problem}" for library in libraries if library.problem is not None)
    version = inventory.library(runtime.name).version
    name, reason = f"CPU engines, {runtime.label}", f"{runtime.name} {version}"
    if runtime is OPENVINO and cpu_target(inventory.environment.architecture) is Target.ARM:
        reason += (
            f"; on Arm it computes most layers of INT8 engines in float: prefer {ONNXRUNTIME.label} for them"
        )
    return _capability(name, next(problems, None), reason, next(_unchecked_libraries(*libraries), None))


def _rtx_capability(inventory: Inventory) -> Capability:
    rtx = _find(inventory, Product.RTX)
    name = "TensorRT-RTX engines ahead of time, without a GPU"
    if rtx is None:
        return Capability(name, False, f"TensorRT-RTX: {NOT_INSTALLED}")
    unchecked = None if rtx.unchecked is None else f"{_title(rtx)}: {rtx.unchecked}"
    return _capability(name, rtx.problem, f"TensorRT-RTX {rtx.version}", unchecked)


def _tensorrt_capability(inventory: Inventory) -> Capability:
    unchecked = inventory.cuda_unchecked or next(_unfinished_checks(inventory), None)
    problem = _tensorrt_problem(inventory)
    if not inventory.has_gpu and inventory.cuda_unchecked is not None:
        problem = None
    return _capability("TensorRT engines", problem, _tensorrt_reason(inventory), unchecked)


def _tensorrt_problem(inventory: Inventory) -> Optional[str]:
    tensorrt, pycuda = _find(inventory, Product.TENSORRT), inventory.library("pycuda")
    if not inventory.has_gpu:
        return "there is no NVIDIA GPU"
    if inventory.cuda_problem is not None:
        return f"CUDA cannot be used: {inventory.cuda_problem}"
    if tensorrt is None:
        return f"TensorRT: {NOT_INSTALLED}"
    if tensorrt.problem is not None:
        return f"{_title(tensorrt)}: {tensorrt.problem}"
    if _too_old(tensorrt):
        return f"{_title(tensorrt)} is older than 8.5"
    return None if pycuda.problem is None else f"pycuda: {pycuda.problem}"


def _tensorrt_reason(inventory: Inventory) -> str:
    tensorrt, jetson = _find(inventory, Product.TENSORRT), inventory.jetson
    capability = next((gpu.compute_capability for gpu in inventory.gpus), None)
    capability = capability or (None if jetson is None else jetson.compute_capability)
    limits = ": FP32 and FP16 only, this GPU has no INT8 arithmetic" if capability in _WITHOUT_INT8 else ""
    title = "" if tensorrt is None else _title(tensorrt)
    return f"{title}, compute capability {capability or 'unknown'}{limits}"


def _hidden_sys(inventory: Inventory) -> Optional[str]:
    """Return the step for ONNX Runtime 1.19, which ends its process on Arm if it cannot read /sys."""
    problem = inventory.library("onnxruntime").problem
    if not inventory.is_sys_hidden or problem is None or "signal" not in problem:
        return None
    return f"onnxruntime: {problem}, because /sys is hidden. {_SHOW_SYS}"


def _broken_library(inventory: Inventory) -> Optional[str]:
    broken = [library for library in map(inventory.library, _CPU_LIBRARIES) if library.problem is not None]
    if not broken:
        return None
    name, problem = broken[0].name, broken[0].problem or ""
    package = "opencv-python" if name == "opencv" else name
    if "libGL" in problem or "libgthread" in problem:
        return f"OpenCV {problem}. Install its libraries: sudo apt-get install libgl1 libglib2.0-0"
    if inventory.jetson is not None:
        return f"{name}: {problem}. Run {_SETUP} again"
    again = "" if problem == NOT_INSTALLED else "--force-reinstall "
    return f"{name}: {problem}. Install it: pip install {again}{package}"


def _old_jetpack(inventory: Inventory) -> Optional[str]:
    jetson = inventory.jetson
    if jetson is None or not jetson.jetpack_too_old:
        return None
    return f"JetPack {jetson.jetpack} has no TensorRT 8.5. Flash the board with JetPack 5.1 or later"


def _missing_driver(inventory: Inventory) -> Optional[str]:
    if inventory.jetson is not None or not inventory.card or inventory.driver is not None:
        return None
    return "There is an NVIDIA card, but its driver is not loaded. Install NVIDIA's driver"


def _unusable_cuda(inventory: Inventory) -> Optional[str]:
    problem = inventory.cuda_problem
    if problem is None:
        return None
    if inventory.container:
        option = "--gpus all" if inventory.jetson is None else "--runtime nvidia"
        return f"CUDA cannot be used in this container: {problem}. Start it with docker run {option}"
    if inventory.jetson is not None:
        return f"CUDA cannot be used: {problem}. Add yourself to the group video, else reinstall JetPack"
    return f"CUDA cannot be used: {problem}. Install NVIDIA's driver again, then restart the machine"


def _missing_tensorrt(inventory: Inventory) -> Optional[str]:
    tensorrt = _find(inventory, Product.TENSORRT)
    if tensorrt is not None and tensorrt.problem is None and not _too_old(tensorrt):
        return None
    fix = "Install it: pip install 'adq-edge[tensorrt]'" if inventory.jetson is None else f"Run {_SETUP}"
    if inventory.jetson is not None and inventory.container:
        fix = "Start the container with docker run --runtime nvidia, from an image with TensorRT"
    return f"{_tensorrt_problem(inventory)}. {fix}"


def _missing_pycuda(inventory: Inventory) -> Optional[str]:
    problem = inventory.library("pycuda").problem
    if problem is None:
        return None
    if inventory.jetson is not None:
        return f"pycuda: {problem}. Run {_SETUP}"
    if inventory.toolkit.nvcc is None:
        return f"pycuda: {problem}. Install the CUDA toolkit (its nvcc builds pycuda), then pycuda"
    return f"pycuda: {problem}. Install it: pip install --no-binary pycuda pycuda"


def _full_disk(inventory: Inventory) -> Optional[str]:
    free = inventory.disk_free_mb
    if free is None or free >= _MIN_DISK_MB:
        return None
    return f"Only {free:.0f} MB are free on this disk. Free some space"


def _no_swap(inventory: Inventory) -> Optional[str]:
    memory = inventory.memory
    if inventory.jetson is None or memory is None or memory.total_mb > _SMALL_MEMORY_MB or memory.swap_mb > 0:
        return None
    size = f"{memory.total_mb / 1e3:.1f} GB"
    return f"There is no swap, and builds may exceed {size} of memory. Add 4 GB of swap"


def _low_power(inventory: Inventory) -> Optional[str]:
    power = inventory.power
    if power is None or inventory.container:
        return None
    fix = f"For quotable results: {_SETUP} --max-performance"
    mode, highest = power.current, power.highest
    if mode is not None and highest is not None and mode.id != highest.id:
        return f"The power mode is {mode.name}, the highest is {highest.name}. {fix}"
    return f"The clocks are not locked. {fix}" if power.clocks_locked is False else None


def _unfinished_check(inventory: Inventory) -> Optional[str]:
    unchecked = next(_unfinished_checks(inventory), None)
    if unchecked is None:
        return None
    return f"{unchecked}. The machine may be busy or out of memory: run adq-edge doctor again when it is idle"


def _unfinished_checks(inventory: Inventory) -> Iterator[str]:
    """Yield the checks that could not be finished."""
    if inventory.cuda_unchecked is not None:
        yield inventory.cuda_unchecked
    for tensorrt in inventory.tensorrts:
        if tensorrt.unchecked is not None:
            yield f"{_title(tensorrt)}: {tensorrt.unchecked}"
    yield from _unchecked_libraries(*inventory.libraries)


def _unchecked_libraries(*libraries: Library) -> Iterator[str]:
    return (f"{library.name}: {library.unchecked}" for library in libraries if library.unchecked is not None)


def _find(inventory: Inventory, product: Product) -> Optional[TensorRT]:
    return next((found for found in inventory.tensorrts if found.product is product), None)


def _title(tensorrt: TensorRT) -> str:
    return " ".join(filter(None, (tensorrt.product.value, tensorrt.version)))


def _too_old(tensorrt: TensorRT) -> bool:
    numbers = re.findall(r"\d{1,9}", tensorrt.version or "")[:2]
    return len(numbers) == 2 and tuple(map(int, numbers)) < _MIN_TENSORRT


def _stays_on_jetpack_4(inventory: Inventory) -> bool:
    return inventory.jetson is not None and inventory.jetson.soc in _JETPACK_4_BOARDS
