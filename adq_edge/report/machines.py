"""Which machine a result is of, whether two are of one, and what devices are called."""

from __future__ import annotations

import collections
import dataclasses
import re
from typing import Counter, Hashable, Iterator, List, Sequence, Tuple

from adq_edge.benchmark.results import BenchmarkReport
from adq_edge.core.options import CARD_DEVICES
from adq_edge.core.options import Device as DeviceName
from adq_edge.hardware.environment import Environment
from adq_edge.report.model import Device


def device_key(report: BenchmarkReport) -> Hashable:
    """Tell devices apart: by the machine, a board's power mode, and how the engines ran on it."""
    environment, settings = report.environment, report.settings
    memory = None if environment.memory_mb is None else round(environment.memory_mb / 100)
    return (
        *(environment.host, environment.board, environment.cpu, environment.architecture),
        *(environment.gpu, environment.power_mode, environment.logical_cores, environment.cpu_quota, memory),
        *(settings.device, settings.threads),
    )


def same_machine(one: Environment, other: Environment) -> bool:
    """Return whether two results may be of one machine, as far as both tell."""
    told = ((one.host, other.host), (one.gpu, other.gpu))
    return (one.board, one.cpu, one.architecture) == (other.board, other.cpu, other.architecture) and all(
        None in pair or pair[0] == pair[1] for pair in told
    )


def device_name(report: BenchmarkReport) -> str:
    """Return what a report calls the device that a run was measured on."""
    environment, settings = report.environment, report.settings
    on_card = settings.device in CARD_DEVICES
    name = _short((environment.gpu if on_card else None) or environment.board or environment.cpu)
    details = [] if settings.device == DeviceName.JETSON else [settings.device.upper()]
    if settings.threads is not None:
        details.append(f"{settings.threads} threads")
    if environment.power_mode is not None:
        details.append(environment.power_mode)
    return f"{name} ({', '.join(details)})" if details else name


def name_apart(devices: Sequence[Device]) -> Tuple[Device, ...]:
    """Add to a name that comes again what tells its devices apart, and a number where nothing does."""
    named: List[Device] = []
    taken: Counter[str] = collections.Counter()
    for device in devices:
        twins = (set(_details(other)) for other in devices if other.name == device.name)
        common = set.intersection(*twins)
        name = ", ".join([device.name, *(detail for detail in _details(device) if detail not in common)])
        taken[name] += 1
        number = "" if taken[name] == 1 else f" #{taken[name]}"
        named.append(dataclasses.replace(device, name=f"{name}{number}"))
    return tuple(named)


def _details(device: Device) -> Iterator[str]:
    environment = device.environments[0]
    if environment.host is not None:
        yield f"host {environment.host}"
    if environment.gpu is not None:
        yield environment.gpu
    yield f"{environment.logical_cores} cores"
    if environment.cpu_quota is not None:
        yield f"limit of {environment.cpu_quota:g} cores"
    if environment.memory_mb is not None:
        yield f"{environment.memory_mb / 1000:.1f} GB"


def _short(name: str) -> str:
    """Return a machine's name as people say it; in full it stands in the table of machines."""
    name = re.sub(r"\((R|TM|r|tm)\)|\bDeveloper Kit\b|(\d+-Core )?\bProcessor$|\bCPU( @ .*)?$", " ", name)
    return re.sub(r"^NVIDIA (?=Jetson)", "", " ".join(name.split())) or name
