"""Installs and updates adq-edge in a virtual environment in the board's cache folder."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

from adq_edge.core.errors import StorageError
from adq_edge.core.files import temporary_folder
from adq_edge.remote.board import Board, BoardInfo
from adq_edge.remote.errors import HostError
from adq_edge.remote.jobs import Job, JobResult, Step, job_error, run_job
from adq_edge.remote.requirements import (
    PIP,
    build_requirements,
    constraints,
    device_requirements,
    fetch_wheels,
    platform_of,
)
from adq_edge.remote.results import write_log
from adq_edge.remote.wheel import write_wheel

_CACHE = Path("~/.cache/adq-edge/wheels")
_DEPENDENCIES = "install dependencies"
_CONSTRAINTS = "work/constraints.txt"
_PIP = ("-m", "pip", "install", "--disable-pip-version-check", "--no-cache-dir")
_CUDA = "/usr/local/cuda/bin"
"""JetPack does not add its CUDA compiler, which pycuda needs, to PATH."""
_NO_RESULTS = "work/none"
_RECORD = "import json, sys; json.dump({'key': sys.argv[2]}, open(sys.argv[1], 'w'))"
_DOWNLOAD_FAILED = re.compile(
    r"could not find a version|no matching distribution|max retries exceeded|name resolution|timed out"
    r"|timeouterror|connection ?error|connection (broken|refused|reset|aborted)|network is unreachable"
    r"|no route to host|incomplete-download|http error \d",
    re.IGNORECASE,
)
"""pip's messages about network failures, and about packages missing from the index."""
_SPARE_MB = 100.0
_SPARE_MB_FIRST = 1500.0
"""Disk space in MB for the unpacked ONNX Runtime, OpenCV and numpy, and pip's temporary files."""


def adq_edge_command(info: BoardInfo) -> Tuple[str, ...]:
    """Return the command that runs the installed adq-edge on a board."""
    return (_python(info), "-m", "adq_edge")


def _python(info: BoardInfo) -> str:
    return f"{info.root}/env/bin/python"


def install(board: Board, info: BoardInfo, extras: Sequence[str], log: Path) -> str:
    """Install or update adq-edge on a board; return the key of the installation.

    Packages in the board's Python are reused, such as JetPack's TensorRT. Others come from the internet. If
    the board has no internet, this machine downloads their wheels and sends them.

    Args:
        board: the board.
        info: its properties.
        extras: the required optional dependencies of adq-edge, such as `jetson`.
        log: the file for the output of a failed installation.

    Raises:
        HostError: adq-edge cannot be installed on the board.
        MissingDependencyError: adq-edge or pip is not installed on this machine.
        StorageError: the wheels cannot be stored on this machine.
    """
    requirements = device_requirements(platform_of(info), extras)
    with temporary_folder() as folder:
        wheel = write_wheel(folder)
        key = installation_key(info.python, requirements, wheel)
        if info.installed != key:
            if not info.venv:
                fix = "Install the module there: sudo apt install python3-venv"
                raise HostError("its Python cannot create environments", where=board.host, fix=fix)
            _install(board, info, _Package(wheel, tuple(requirements), key), log)
    return key


def installation_key(python: str, requirements: Sequence[str], wheel: Path) -> str:
    """Return the key of an installation: a hash of the board's Python, the requirements and the wheel."""
    content = "\n".join([python, *requirements]).encode() + wheel.read_bytes()
    return hashlib.sha256(content).hexdigest()


class _Package(NamedTuple):
    """The wheel of adq-edge, its requirements, and the key of this installation."""

    wheel: Path
    requirements: Tuple[str, ...]
    key: str


def _install(board: Board, info: BoardInfo, package: _Package, log: Path) -> None:
    first = result = run_job(board, _job(info, package, ()), _NO_RESULTS)
    if _lacks_internet(first):
        try:
            wheels = _download_wheels(board, info, package.requirements)
        except HostError as error:
            fix = ". ".join([*([error.fix] if error.fix else []), _keep_log(log, first)])
            raise HostError(error.what, where=board.host, fix=fix) from error
        result = run_job(board, _job(info, package, wheels), _NO_RESULTS)
    if result.state != "done":
        attempts = (first,) if result is first else (first, result)
        raise job_error(board.host, result, fix=_keep_log(log, *attempts))


def _keep_log(log: Path, *attempts: JobResult) -> str:
    """Write the output of a failed installation to a file; return a message with the path."""
    try:
        write_log(log, "\n".join(result.log for result in attempts))
    except StorageError as error:  # must not hide the board's error
        return f"The output of the installation could not be written to {log} ({error.what})"
    return f"The output of the installation is in {log}"


def _lacks_internet(result: JobResult) -> bool:
    """Return True if packages could not be downloaded; False for another failure."""
    if result.state != "failed" or result.step != _DEPENDENCIES or result.filled_disk:
        return False
    # Warnings are ignored: pip retries, or continues without the file.
    lines = [line for line in result.last_output.splitlines() if not line.lstrip().startswith("WARNING: ")]
    return any(map(_DOWNLOAD_FAILED.search, lines))


def _download_wheels(board: Board, info: BoardInfo, requirements: Sequence[str]) -> List[Path]:
    board.show("download wheels here: the board has no internet")
    platform = platform_of(info)
    return fetch_wheels(requirements, platform, _CACHE.expanduser() / platform.name)


def _job(info: BoardInfo, package: _Package, wheels: Sequence[Path]) -> Job:
    python, record = _python(info), f"{info.root}/installed.json"
    wheel, requirements, key = package
    pinned = constraints()
    files: Dict[str, Path] = {f"work/{wheel.name}": wheel}
    files.update({f"work/wheels/{path.name}": path for path in wheels})
    if pinned is not None:
        files[_CONSTRAINTS] = pinned
    steps = (
        Step("install", (("rm", "-f", record),)),
        Step(
            "create a virtual environment",
            (
                (python, "-m", "pip", "--version"),
                (info.executable, "-m", "venv", "--clear", "--system-site-packages", f"{info.root}/env"),
            ),
        ),
        Step(_DEPENDENCIES, _install_commands(python, (PIP,), None, wheels)),
        *_preparation(python, pinned, wheels),
        Step(_DEPENDENCIES, _install_commands(python, requirements, pinned, wheels)),
        Step(
            "install adq-edge",
            ((python, *_PIP, "--no-index", "--no-deps", "--force-reinstall", wheel.name),),
        ),
        # A step of the job, because no other job can install another version before it ends.
        Step("record the installation", ((info.executable, "-c", _RECORD, record, key),)),
    )
    spare = _SPARE_MB if info.installed is not None else _SPARE_MB_FIRST
    return Job("install", files, steps, path=_CUDA, spare_mb=spare)


def _preparation(python: str, pinned: Optional[Path], wheels: Sequence[Path]) -> Tuple[Step, ...]:
    """Return the step that installs the build tools of the source packages among the wheels.

    pip builds all source packages before it installs any package. Without build isolation, it does not
    install build tools.
    """
    tools = build_requirements(wheels)
    if not tools:
        return ()
    # Upgrade, because a new environment contains the old setuptools of its Python.
    options = ("--upgrade", "--only-binary", ":all:", *_offline(pinned))
    return (Step(_DEPENDENCIES, ((python, *_PIP, *options, *tools),)),)


def _install_commands(
    python: str, requirements: Sequence[str], pinned: Optional[Path], wheels: Sequence[Path]
) -> Tuple[Tuple[str, ...], ...]:
    """Return the commands to install from wheels; without wheels, from installed packages or the internet."""
    if wheels:
        return ((python, *_PIP, "--no-build-isolation", *_offline(pinned), *requirements),)
    online = ("--retries", "1", "--timeout", "15", *_versions(pinned))
    return ((python, *_PIP, "--no-index", *requirements), (python, *_PIP, *online, *requirements))


def _offline(pinned: Optional[Path]) -> Tuple[str, ...]:
    return ("--no-index", "--find-links", "wheels", *_versions(pinned))


def _versions(pinned: Optional[Path]) -> Tuple[str, ...]:
    return () if pinned is None else ("--constraint", Path(_CONSTRAINTS).name)
