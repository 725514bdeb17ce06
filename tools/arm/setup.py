"""Makes the cache of the emulated systems: QEMU, and a folder for each system.

A part is made in a temporary folder and renamed when it is complete, so an interrupted set-up leaves no half
part. The name of a part has a digest of its recipe: a changed pin makes the part again.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import platform
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Callable, Iterator, Sequence, Tuple

from adq_edge.core.errors import AdqError
from tools.arm.debian import KEYRING, MIRROR, Archive, run, unpack
from tools.arm.systems import DEBIAN_PACKAGES, SYSTEMS, System

CACHE_VARIABLE = "ADQ_EDGE_ARM_CACHE"

WHEELS = "opt/wheels"
"""The folder of the wheels in a system."""

BYTECODE = "bytecode-"
"""Prefix of the folders in the cache where the systems keep the byte code of Python modules."""

MOUNT_POINTS = ("proc", "sys", "dev", "tmp", "repository", "scratch", "bytecode")
"""The folders of a system in which the emulation mounts folders of this machine."""

_QEMU_RELEASE = "trixie"
"""The first release of Debian with QEMU 10. QEMU 7.2 crashes when it loads ONNX Runtime 1.32."""

_RECIPE = 1
"""To be raised when the code below makes another folder from the same pins."""


def cache_folder() -> Path:
    """Return the folder of the cache: `ADQ_EDGE_ARM_CACHE`, or a folder in the user's cache."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "adq-edge" / "arm"
    return Path(os.environ.get(CACHE_VARIABLE) or default).absolute()


def qemu_path() -> Path:
    """Return the path of QEMU in the cache, where it may be missing."""
    return _part("qemu", _QEMU_RELEASE) / "qemu-aarch64"


def system_path(system: System) -> Path:
    """Return the root folder of a system in the cache, where it may be missing."""
    recipe = (system.debian, system.python, *DEBIAN_PACKAGES, *system.pinned_wheels(), *MOUNT_POINTS)
    return _part(system.name, *recipe)


def is_complete() -> bool:
    """Return True if the cache has QEMU and all systems, with the pinned versions."""
    return all(path.exists() for path in (qemu_path(), *map(system_path, SYSTEMS)))


def set_up(report: Callable[[str], None]) -> None:
    """Make what the cache lacks, and delete what it has in another version.

    Args:
        report: called with a line of text at the start of each part.

    Raises:
        AdqError: this machine lacks a tool, or something cannot be downloaded.
    """
    _check_machine()
    parts: Tuple[Tuple[Path, Callable[[Path, Path], None]], ...] = (
        (qemu_path().parent, _make_qemu),
        *((system_path(system), _system_maker(system)) for system in SYSTEMS),
    )
    with _locked(cache_folder()):
        _delete_others([path for path, _ in parts])
        for path, make in parts:
            if not path.exists():
                report(f"downloading {path.name} ...")
                make_part(path, make)


def _part(name: str, *recipe: str) -> Path:
    digest = hashlib.sha256("\n".join((str(_RECIPE), MIRROR, *recipe)).encode()).hexdigest()[:12]
    return cache_folder() / f"{name}-{digest}"


def _check_machine() -> None:
    if platform.machine() != "x86_64" or not sys.platform.startswith("linux"):
        raise AdqError("Arm is emulated on Linux on x86 only", fix="On an Arm machine, run make test")
    missing = [name for name in ("apt-get", "dpkg-deb", "unshare") if shutil.which(name) is None]
    if missing:
        fix = "Use a Debian or Ubuntu, or a container of one"
        raise AdqError(f"the emulation of Arm needs {', '.join(missing)}", fix=fix)
    if not KEYRING.exists():
        fix = "Install the keys of Debian: apt-get install debian-archive-keyring"
        raise AdqError("is missing", where=KEYRING, fix=fix)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock of the cache; a second set-up waits for the first one."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _delete_others(wanted: Sequence[Path]) -> None:
    """Delete parts of other versions, and what an interrupted set-up left."""
    for path in cache_folder().iterdir():
        if path.is_dir() and path not in wanted and not path.name.startswith(BYTECODE):
            shutil.rmtree(str(path))


def make_part(path: Path, make: Callable[[Path, Path], None]) -> None:
    """Make a part in a temporary folder beside it, then rename it.

    Args:
        path: the folder of the part.
        make: function that fills an empty folder, and has another one for its downloads.
    """
    with tempfile.TemporaryDirectory(prefix=f"{path.name}.partial-", dir=str(path.parent)) as temporary:
        content, downloads = Path(temporary) / "content", Path(temporary) / "downloads"
        content.mkdir()
        downloads.mkdir()
        make(content, downloads)
        content.rename(path)


def _make_qemu(content: Path, downloads: Path) -> None:
    """Unpack QEMU for this machine: one static program."""
    package = Archive(_QEMU_RELEASE, "amd64", downloads).download("qemu-user")
    unpacked = downloads / "unpacked"
    unpacked.mkdir()
    unpack([package], unpacked)
    (unpacked / "usr/bin/qemu-aarch64").rename(content / "qemu-aarch64")


def _system_maker(system: System) -> Callable[[Path, Path], None]:
    def make(content: Path, downloads: Path) -> None:
        archive = Archive(system.debian, "arm64", downloads)
        unpack(archive.download_with_dependencies(DEBIAN_PACKAGES), content)
        for name in MOUNT_POINTS:
            (content / name).mkdir(exist_ok=True)
        _install_wheels(system, content / WHEELS)

    return make


def _install_wheels(system: System, folder: Path) -> None:
    command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--quiet"]
    command += ["--target", str(folder), "--no-compile", "--no-deps", "--only-binary", ":all:"]
    run([*command, *system.pip_options, *system.pinned_wheels()], dict(os.environ), folder.parent.parent)
