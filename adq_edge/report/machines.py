"""Names of the devices that results come from, and whether two results come from one machine."""

from __future__ import annotations

import collections
import re
from typing import Counter, Hashable, Iterator, List, Sequence

from adq_edge.benchmark.results import BenchmarkReport
from adq_edge.core.options import CARD_DEVICES, Device
from adq_edge.core.text import number_of
from adq_edge.hardware.environment import Environment

SUBMITTED = "submission "
"""Start of the host name in the run of a submission; no machine's name has a blank."""


def device_key(report: BenchmarkReport) -> Hashable:
    """Return what distinguishes devices: the machine, a board's power mode, and how the engines ran."""
    environment, settings = report.environment, report.settings
    memory = None if environment.memory_mb is None else round(environment.memory_mb / 100)
    return (
        *(environment.host, environment.board, environment.cpu, environment.architecture),
        *(environment.gpu, environment.power_mode, environment.logical_cores, environment.cpu_quota, memory),
        *(settings.device, settings.threads),
    )


def same_machine(one: Environment, other: Environment) -> bool:
    """Return True if two results may come from one machine, as far as both name it."""
    optional = ((one.host, other.host), (one.gpu, other.gpu))
    return (one.board, one.cpu, one.architecture) == (other.board, other.cpu, other.architecture) and all(
        None in pair or pair[0] == pair[1] for pair in optional
    )


def device_name(report: BenchmarkReport) -> str:
    """Return the name of the device that a run was measured on."""
    environment, settings = report.environment, report.settings
    on_card = settings.device in CARD_DEVICES
    name = _short((environment.gpu if on_card else None) or environment.board or environment.cpu)
    details = [] if settings.device == Device.JETSON else [settings.device.upper()]
    if settings.threads is not None:
        details.append(number_of(settings.threads, "thread"))
    if environment.power_mode is not None:
        details.append(environment.power_mode)
    if (environment.host or "").startswith(SUBMITTED):
        details.append("submitted")
    return f"{name} ({', '.join(details)})" if details else name


def device_names(reports: Sequence[BenchmarkReport]) -> List[str]:
    """Return a different name for each device, given a run of each.

    A name that occurs several times gets the details that differ, or a number if none does.
    """
    names = [device_name(report) for report in reports]
    taken: Counter[str] = collections.Counter()
    distinct = []
    for name, report in zip(names, reports):
        twins = (set(_details(other)) for known, other in zip(names, reports) if known == name)
        common = set.intersection(*twins)
        longer = ", ".join([name, *(detail for detail in _details(report) if detail not in common)])
        taken[longer] += 1
        distinct.append(longer if taken[longer] == 1 else f"{longer} #{taken[longer]}")
    return distinct


def _details(report: BenchmarkReport) -> Iterator[str]:
    environment = report.environment
    if environment.host is not None:
        is_submitted = environment.host.startswith(SUBMITTED)
        yield environment.host if is_submitted else f"host {environment.host}"
    if environment.gpu is not None:
        yield environment.gpu
    yield number_of(environment.logical_cores, "core")
    if environment.cpu_quota is not None:
        yield f"limit of {number_of(environment.cpu_quota, 'core')}"
    if environment.memory_mb is not None:
        yield f"{environment.memory_mb / 1000:.1f} GB"


def _short(name: str) -> str:
    """Return the usual short form of a machine's name."""
    name = re.sub(r"\((R|TM|r|tm)\)|\bDeveloper Kit\b|(\d+-Core )?\bProcessor$|\bCPU( @ .*)?$", " ", name)
    return re.sub(r"^NVIDIA (?=Jetson)", "", " ".join(name.split())) or name
