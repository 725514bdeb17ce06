"""`doctor`: what this machine is, what adq-edge can do on it, and the one next thing to fix."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Optional, Tuple, Union

from adq_edge.core.errors import ResultError
from adq_edge.core.records import read_record, write_json
from adq_edge.hardware.commands import Runner, run_command
from adq_edge.hardware.diagnosis import Capability, judge, next_step
from adq_edge.hardware.inventory import Inventory, examine

_SCHEMA = "adq-edge/doctor"
_VERSION = 1


@dataclasses.dataclass(frozen=True)
class Diagnosis:
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


def write_diagnosis(path: Union[str, Path], diagnosis: Diagnosis) -> None:
    """Write a diagnosis as JSON, atomically.

    Raises:
        StorageError: the folder cannot be written to or is full.
    """
    write_json(Path(path), _SCHEMA, _VERSION, dataclasses.asdict(diagnosis))


def read_diagnosis(path: Union[str, Path]) -> Diagnosis:
    """Read a diagnosis, of this machine or of another.

    Raises:
        ResultError: not a diagnosis, or one of another release.
        StorageError: the file cannot be read.
    """
    fix = "Write it anew: adq-edge doctor --json FILE"
    return read_record(Path(path), Diagnosis, _SCHEMA, _VERSION, ResultError, fix)
