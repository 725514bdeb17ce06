"""Runs programs of an emulated Arm system.

Each run has namespaces of its own for mounts, processes and users. In them the kernel (Linux 6.7 or later)
starts QEMU for each Arm program, also for the children of one. Nothing is registered for other programs of
this machine, and all mounts and processes end with the run.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Sequence

from adq_edge.core.errors import AdqError
from tools.arm.setup import BYTECODE, WHEELS, cache_folder, is_complete, qemu_path, system_path
from tools.arm.systems import System

REPOSITORY = Path(__file__).resolve().parents[2]

CPUS = ("cortex-a72", "cortex-a76")
"""CPU models without INT8 dot products, as in a Jetson Xavier NX, and with them, as in an Orin."""

_ARM_PROGRAM = (
    r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00",
    r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff",
)
"""The first bytes of a program for 64-bit Arm, and the mask of those that count."""

_NAMESPACES = (
    "unshare",
    "--user",
    "--map-root-user",
    "--mount",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
)

# F: the kernel opens QEMU at once, from outside the system's root folder.
_START = """\
set -eu
root=$1 qemu=$2 magic=$3 mask=$4 repository=$5 scratch=$6 bytecode=$7
shift 7
mount -t binfmt_misc none /proc/sys/fs/binfmt_misc
printf '%s' ":arm:M::$magic:$mask:$qemu:F" > /proc/sys/fs/binfmt_misc/register
mount --rbind /proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs none "$root/tmp"
mount --bind "$repository" "$root/repository"
mount --bind "$scratch" "$root/scratch"
mount --bind "$bytecode" "$root/bytecode"
exec chroot "$root" /usr/bin/env -i --chdir=/scratch "$@"
"""


class EmulatedSystem:
    """An Arm system with a CPU model.

    The repository is at `/repository`, and the folder `scratch` at `/scratch`, where programs start.

    Args:
        system: the system, whose cache must be complete.
        cpu: QEMU's name of the CPU model.
        scratch: a folder for files that are exchanged.

    Raises:
        AdqError: the system is not set up.
    """

    def __init__(self, system: System, cpu: str, scratch: Path) -> None:
        if not is_complete():
            what = "the emulated Arm systems are not set up"
            raise AdqError(what, where=cache_folder(), fix="Run make test-arm")
        self._bytecode = cache_folder() / f"{BYTECODE}{system.name}"
        self._bytecode.mkdir(exist_ok=True)
        self._system, self._cpu, self._scratch = system, cpu, scratch

    def command(self, program: Sequence[str], variables: Optional[Mapping[str, str]] = None) -> List[str]:
        """Return the command of this machine that runs an Arm program."""
        folders = (REPOSITORY, self._scratch, self._bytecode)
        places = [str(system_path(self._system)), str(qemu_path()), *_ARM_PROGRAM, *map(str, folders)]
        environment = [
            f"{name}={value}" for name, value in {**self._variables(), **(variables or {})}.items()
        ]
        return [*_NAMESPACES, "sh", "-c", _START, "sh", *places, *environment, *program]

    def _variables(self) -> Dict[str, str]:
        return {
            "QEMU_CPU": self._cpu,
            "PATH": "/usr/bin:/bin",
            "HOME": "/tmp",
            "LC_ALL": "C.UTF-8",
            "PYTHONPATH": f"/{WHEELS}:/repository",
            "PYTHONPYCACHEPREFIX": "/bytecode",
            "OMP_NUM_THREADS": "1",
        }


def why_no_emulation() -> Optional[str]:
    """Return why this machine cannot run Arm programs, or None if it can; nothing of the cache is needed."""
    register = "mount -t binfmt_misc none /proc/sys/fs/binfmt_misc"
    try:
        done = subprocess.run(
            [*_NAMESPACES, "sh", "-c", register], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return "there is no program unshare"
    if done.returncode == 0:
        return None
    said = (done.stderr.strip().splitlines() or ["no message"])[-1]
    return f"no namespace with a binfmt_misc of its own, which takes root and Linux 6.7 or later ({said})"
