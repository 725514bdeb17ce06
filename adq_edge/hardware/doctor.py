"""`doctor`: what this machine is, what adq-edge can do on it, and the one next thing to fix."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Optional, Tuple

from adq_edge.core.errors import ResultError
from adq_edge.core.records import Record, record
from adq_edge.hardware.commands import Runner, run_command
from adq_edge.hardware.diagnosis import Capability, judge, next_step
from adq_edge.hardware.inventory import Inventory, examine


@record("adq-edge/doctor", version=1, error=ResultError, fix="Write it anew: adq-edge doctor --json FILE")
@dataclasses.dataclass(frozen=True)
class Diagnosis(Record):
    """A machine, judged.

    Attributes:
        findings: what it is and what is on it.
        abilities: what adq-edge can do on it, and why or why not.
        next_step: the one next thing to fix; None where nothing is wrong.
    """

    findings: Inventory
    abilities: Tuple[Capability, ...]
    next_step: Optional[str]


def diagnose(root: Path = Path("/"), run: Runner = run_command) -> Diagnosis:
    """Examine this machine and say what adq-edge can do on it.

    Works on a broken installation: none of the libraries that it looks at is imported.

    Args:
        root: where `proc`, `sys`, `etc`, `usr` and `var` are.
        run: how programs are run that tell about the machine.
    """
    findings = examine(root, run)
    return Diagnosis(findings, judge(findings), next_step(findings))
