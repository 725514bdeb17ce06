"""The tables of `doctor`."""

from __future__ import annotations

import sys
from typing import Iterator, Optional, Tuple

from adq_edge.core.text import number_of
from adq_edge.hardware.doctor import Diagnosis
from adq_edge.hardware.inventory import Inventory
from adq_edge.hardware.jetson import Jetson
from adq_edge.hardware.memory import Memory
from adq_edge.hardware.power import Power, faster_cpu_mode
from adq_edge.report.table import Table, prose, text

_UNKNOWN = "unknown"

_Row = Tuple[str, str]


def machine_table(inventory: Inventory) -> Table:
    """Return the hardware and software of a machine."""
    rows = (*_hardware(inventory), *_gpu(inventory), *_software(inventory))
    return Table("this machine", (text(""), prose("")), rows)


def capabilities_table(diagnosis: Diagnosis) -> Table:
    """Return what adq-edge can do on a machine, and the reasons."""
    rows = tuple((one.name, _yes_or_no(one.possible), one.reason) for one in diagnosis.capabilities)
    columns = (text("capability"), text("possible"), prose("with what, or why not"))
    return Table("what adq-edge can do here", columns, rows)


def int8_table(diagnosis: Diagnosis) -> Table:
    """Return the CPU's instruction sets that matter for INT8, and what they mean."""
    rows = tuple((one.name, _yes_or_no(one.present), one.meaning) for one in diagnosis.int8)
    columns = (text("instructions"), text("present"), prose("meaning for INT8 engines"))
    return Table("INT8 on this processor", columns, rows)


def _yes_or_no(value: Optional[bool]) -> str:
    return {None: _UNKNOWN, True: "yes", False: "no"}[value]


def next_step_line(diagnosis: Diagnosis) -> str:
    """Return the line about the next thing to fix."""
    step = diagnosis.next_step
    return "No problem was found." if step is None else f"Next step: {step}."


def _hardware(inventory: Inventory) -> Iterator[_Row]:
    environment, memory, jetson = inventory.environment, inventory.memory, inventory.jetson
    yield "machine", _machine(inventory)
    quota = environment.cpu_quota
    limit = "" if quota is None else f"; CPU limit of the container: {number_of(quota, 'core')}"
    yield "processor", f"{environment.cpu}, {number_of(environment.logical_cores, 'logical core')}{limit}"
    yield "memory", _UNKNOWN if memory is None else _memory(memory)
    if inventory.memory_limit is not None:
        total, available = inventory.memory_limit.total_mb, inventory.memory_limit.available_mb
        yield "", f"limit of the container: {_gb(total)}, {_gb(available)} available"
    yield "disk", f"{_gb(inventory.disk_free_mb)} free here"
    if jetson is not None:
        yield "Jetson Linux", f"L4T {jetson.l4t or _UNKNOWN}, JetPack {jetson.jetpack or _UNKNOWN}"
    if inventory.power is not None:
        yield "power mode", _power_mode(inventory.power)
        yield "clocks", _clocks(inventory.power)


def _memory(memory: Memory) -> str:
    return f"{_gb(memory.total_mb)}, {_gb(memory.available_mb)} available; {_swap(memory)}"


def _swap(memory: Memory) -> str:
    if not memory.swap_mb:
        return "no swap"
    return f"swap {_gb(memory.swap_mb)}, {_gb(memory.swap_free_mb)} free"


def _machine(inventory: Inventory) -> str:
    environment, jetson = inventory.environment, inventory.jetson
    inside = ", in a container" if inventory.container else ""
    name = environment.board or environment.architecture if jetson is None else _board(jetson)
    return f"{name}, {environment.os}{inside}"


def _board(jetson: Jetson) -> str:
    parts = ", ".join(filter(None, (jetson.family, jetson.module, jetson.soc)))
    name = jetson.model or jetson.family or "a board without a name"
    if jetson.family is None:
        name = f"unknown Jetson: {name}"
    return f"{name} ({parts})" if parts else name


def _power_mode(power: Power) -> str:
    if power.current is None:
        return f"{_UNKNOWN}: nvpmodel {'does not tell it' if power.modes else 'and its files are not here'}"
    highest = power.highest
    rest = "" if highest is None or highest == power.current else f"; the highest is {highest.label}"
    return f"{power.current.label}{rest}{_faster_cpu(power)}"


def _faster_cpu(power: Power) -> str:
    """Return a hint at a mode that may be faster at batch 1; empty without one."""
    mode = faster_cpu_mode(power)
    if mode is None or mode.cpu_max_mhz is None:
        return ""
    clock = f"has at least the same GPU clock and a CPU clock of {mode.cpu_max_mhz:.0f} MHz"
    return f"; {mode.label} {clock}, which may be faster at batch 1: measure both"


def _clocks(power: Power) -> str:
    locked = {None: "lock unknown", True: "locked", False: "not locked"}[power.clocks_locked]
    memory = "unknown to this user" if power.emc_mhz is None else _mhz(power.emc_mhz)
    return f"{locked}; GPU {_mhz(power.gpu_mhz)} of {_mhz(power.gpu_max_mhz)}; memory {memory}"


def _gpu(inventory: Inventory) -> Iterator[_Row]:
    if inventory.cuda_unchecked is not None:
        yield "CUDA", f"{_UNKNOWN}: {inventory.cuda_unchecked}"
    if not inventory.has_gpu:
        if inventory.cuda_unchecked is None:
            yield "GPU", "no NVIDIA GPU"
        return
    jetson = inventory.jetson
    for gpu in inventory.gpus:
        memory = "" if gpu.memory_mb is None else f", {_gb(gpu.memory_mb)}"
        yield "GPU", f"{gpu.name}, compute capability {gpu.compute_capability or _UNKNOWN}{memory}"
    if not inventory.gpus:
        known = None if jetson is None else jetson.compute_capability
        yield "GPU", f"compute capability {known or _UNKNOWN}"
    if inventory.cuda_problem is not None:
        yield "", f"CUDA cannot be used: {inventory.cuda_problem}"
    if inventory.driver is not None:
        yield "driver", inventory.driver
    if jetson is not None:
        yield "DLA cores", _UNKNOWN if jetson.dla_cores is None else str(jetson.dla_cores)


def _software(inventory: Inventory) -> Iterator[_Row]:
    toolkit = inventory.toolkit
    if inventory.has_gpu or toolkit.version is not None:
        compiler = "without nvcc" if toolkit.nvcc is None else f"nvcc: {toolkit.nvcc}"
        yield "CUDA toolkit", "none" if toolkit.version is None else f"{toolkit.version}, {compiler}"
    for tensorrt in inventory.tensorrts:
        state = tensorrt.problem or tensorrt.unchecked or "loads"
        yield tensorrt.product.value, f"{tensorrt.version or 'version unknown'}: {state}"
    if not inventory.tensorrts:
        yield "TensorRT", "none"
    yield "Python", f"{inventory.environment.python}, {sys.executable}"
    for library in inventory.libraries:
        yield library.name, ": ".join(filter(None, (library.version, library.problem, library.unchecked)))


def _gb(megabytes: Optional[float]) -> str:
    return _UNKNOWN if megabytes is None else f"{megabytes / 1e3:.1f} GB"


def _mhz(clock: Optional[float]) -> str:
    return _UNKNOWN if clock is None else f"{clock:.0f} MHz"
