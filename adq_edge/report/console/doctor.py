"""The tables of `doctor`."""

from __future__ import annotations

import sys
from typing import Iterator, Optional, Tuple

from rich.table import Table

from adq_edge.hardware.doctor import Diagnosis
from adq_edge.hardware.gpu import Gpu
from adq_edge.hardware.inventory import Inventory
from adq_edge.hardware.jetson import Jetson
from adq_edge.hardware.memory import Memory
from adq_edge.hardware.power import Power

_UNKNOWN = "unknown"

Row = Tuple[str, str]


def machine_table(findings: Inventory) -> Table:
    """Show what a machine is and what is on it."""
    table = Table(title="this machine", title_justify="left", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column()
    for name, value in (*_hardware(findings), *_gpu(findings), *_software(findings)):
        table.add_row(name, value)
    return table


def capabilities_table(diagnosis: Diagnosis) -> Table:
    """Show what adq-edge can do on a machine, and why or why not."""
    table = Table(title="what adq-edge can do here", title_justify="left")
    for heading in ("ability", "", "with what, or why not"):
        table.add_column(heading)
    for ability in diagnosis.capabilities:
        table.add_row(ability.name, "yes" if ability.possible else "no", ability.reason)
    return table


def advice(diagnosis: Diagnosis) -> str:
    """Return the line about what to do next."""
    step = diagnosis.next_step
    return "Next step: nothing, all is well." if step is None else f"Next step: {step}."


def _hardware(findings: Inventory) -> Iterator[Row]:
    environment, memory, jetson = findings.environment, findings.memory, findings.jetson
    yield "machine", _machine(findings)
    yield "processor", f"{environment.cpu}, {environment.logical_cores} logical cores"
    yield "memory", f"{_gb(memory.total_mb)}, {_gb(memory.available_mb)} available; {_swap(memory)}"
    yield "disk", f"{_gb(findings.disk_free_mb)} free here"
    if jetson is not None:
        yield "Jetson Linux", f"L4T {jetson.l4t or _UNKNOWN}, JetPack {jetson.jetpack or _UNKNOWN}"
    if findings.power is not None:
        yield "power mode", _power_mode(findings.power)
        yield "clocks", _clocks(findings.power)


def _swap(memory: Memory) -> str:
    if not memory.swap_mb:
        return "no swap"
    return f"swap {_gb(memory.swap_mb)}, {_gb(memory.swap_free_mb)} free"


def _machine(findings: Inventory) -> str:
    environment, jetson = findings.environment, findings.jetson
    inside = ", in a container" if findings.container else ""
    if jetson is None:
        return f"{environment.board or environment.architecture}, {environment.os}{inside}"
    return f"{_board(jetson)}, {environment.os}{inside}"


def _board(jetson: Jetson) -> str:
    parts = ", ".join(filter(None, (jetson.family, jetson.module, jetson.soc)))
    name = jetson.model or jetson.family or "a board without a name"
    if jetson.family is None:
        name = f"unknown Jetson: {name}"
    return f"{name} ({parts})" if parts else name


def _power_mode(power: Power) -> str:
    if power.current is None:
        return _UNKNOWN
    highest = power.highest
    rest = "" if highest is None or highest == power.current else f"; the highest is {highest.label}"
    return f"{power.current.label}{rest}"


def _clocks(power: Power) -> str:
    locked = {None: "lock unknown", True: "locked", False: "not locked"}[power.clocks_locked]
    memory = "unknown to this user" if power.emc_mhz is None else f"{power.emc_mhz:.0f} MHz"
    return f"{locked}; GPU {_mhz(power.gpu_mhz)} of {_mhz(power.gpu_max_mhz)}; memory {memory}"


def _gpu(findings: Inventory) -> Iterator[Row]:
    if not findings.has_gpu:
        yield "GPU", "no NVIDIA GPU"
        return
    jetson = findings.jetson
    for gpu in findings.gpus:
        yield "GPU", _one_gpu(gpu)
    if not findings.gpus:
        known = None if jetson is None else jetson.compute_capability
        yield "GPU", f"compute capability {known or _UNKNOWN}"
    if findings.cuda_problem is not None:
        yield "", f"CUDA cannot be used: {findings.cuda_problem}"
    if findings.driver is not None:
        yield "driver", findings.driver
    if jetson is not None:
        yield "DLA cores", _UNKNOWN if jetson.dla_cores is None else str(jetson.dla_cores)


def _one_gpu(gpu: Gpu) -> str:
    memory = "" if gpu.memory_mb is None else f", {_gb(gpu.memory_mb)}"
    return f"{gpu.name}, compute capability {gpu.compute_capability or _UNKNOWN}{memory}"


def _software(findings: Inventory) -> Iterator[Row]:
    toolkit = findings.toolkit
    if findings.has_gpu or toolkit.version is not None:
        compiler = "without nvcc" if toolkit.nvcc is None else f"nvcc: {toolkit.nvcc}"
        yield "CUDA toolkit", "none" if toolkit.version is None else f"{toolkit.version}, {compiler}"
    for tensorrt in findings.tensorrts:
        state = "loads" if tensorrt.problem is None else tensorrt.problem
        yield tensorrt.flavour.value, f"{tensorrt.version or 'version unknown'}: {state}"
    if not findings.tensorrts:
        yield "TensorRT", "none"
    yield "Python", f"{findings.environment.python}, {sys.executable}"
    for library in findings.libraries:
        yield library.name, ": ".join(filter(None, (library.version, library.problem)))


def _gb(megabytes: Optional[float]) -> str:
    return _UNKNOWN if megabytes is None else f"{megabytes / 1e3:.1f} GB"


def _mhz(clock: Optional[float]) -> str:
    return _UNKNOWN if clock is None else f"{clock:.0f} MHz"
