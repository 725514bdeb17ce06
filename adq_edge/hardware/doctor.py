"""`doctor`: the inventory of this machine, what adq-edge can do on it, and the next thing to fix."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Optional, Tuple

from adq_edge.core.errors import ResultError
from adq_edge.core.records import Record, record
from adq_edge.hardware.commands import Runner, run_command
from adq_edge.hardware.diagnosis import Capability, find_capabilities, next_step
from adq_edge.hardware.int8_instructions import Int8Instructions, int8_instructions
from adq_edge.hardware.inventory import Inventory, take_inventory


@record(
    "adq-edge/doctor",
    version=2,
    error=ResultError,
    fix="Write it again: adq-edge doctor --output FILE",
    older={
        1: {"findings.tensorrts.flavour": "product", "findings": "inventory", "abilities": "capabilities"}
    },
)
@dataclasses.dataclass(frozen=True)
class Diagnosis(Record):
    """Diagnosis of a machine.

    Attributes:
        inventory: its hardware and software.
        capabilities: what adq-edge can do on it, with reasons.
        next_step: the next thing to fix; None if there is nothing.
        int8: the CPU's instruction sets that matter for INT8; empty in files of earlier releases.
    """

    inventory: Inventory
    capabilities: Tuple[Capability, ...]
    next_step: Optional[str]
    int8: Tuple[Int8Instructions, ...] = ()


def diagnose(root: Path = Path("/"), run: Runner = run_command) -> Diagnosis:
    """Take the inventory of this machine and report what adq-edge can do on it.

    Works with a broken installation: no library of the inventory is imported into this process. The arguments
    are for tests: a fake file tree, and fake programs.
    """
    inventory = take_inventory(root, run)
    environment = inventory.environment
    instructions = int8_instructions(environment.architecture, environment.instruction_sets)
    return Diagnosis(inventory, find_capabilities(inventory), next_step(inventory), instructions)
