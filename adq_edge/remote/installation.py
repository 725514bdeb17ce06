"""adq-edge on a board: one environment in its cache folder, brought up to date when something changed."""

from __future__ import annotations

import hashlib
import re
import tempfile
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

from adq_edge.core.errors import StorageError
from adq_edge.core.files import write_bytes
from adq_edge.remote.board import Board, Facts
from adq_edge.remote.errors import HostError
from adq_edge.remote.jobs import Ended, Job, Step, describe_failure, run_job
from adq_edge.remote.requirements import (
    PIP,
    constraints,
    device_requirements,
    fetch_wheels,
    needed_to_build,
    platform_of,
)
from adq_edge.remote.wheel import write_wheel

_CACHE = Path("~/.cache/adq-edge/wheels")
_DEPENDENCIES = "install what adq-edge needs"
_CONSTRAINTS = "work/constraints.txt"
_PIP = ("-m", "pip", "install", "--disable-pip-version-check", "--no-cache-dir")
_CUDA = "/usr/local/cuda/bin"
"""JetPack's compiler, which pycuda is built with, is on no PATH there."""
_NO_RESULTS = "work/none"
_NOT_GOT = re.compile(
    r"could not find a version|no matching distribution|max retries exceeded|name resolution|timed out"
    r"|timeouterror|connection ?error|connection (broken|refused|reset|aborted)|network is unreachable"
    r"|no route to host|incomplete-download|http error \d",
    re.IGNORECASE,
)
"""pip's words for a network that is not there or breaks off, and for an index without what is asked for."""
_SPARE_MB = 100.0
_SPARE_MB_FIRST = 1500.0
"""ONNX Runtime, OpenCV and numpy, unpacked, with what pip needs meanwhile."""


def command_there(facts: Facts) -> Tuple[str, ...]:
    """Return what runs adq-edge on a board once it is installed."""
    return (_python(facts), "-m", "adq_edge")


def _python(facts: Facts) -> str:
    return f"{facts.root}/env/bin/python"


def install(board: Board, facts: Facts, extras: Sequence[str], log: Path) -> None:
    """Install or update adq-edge on a board.

    What the board's Python has already is taken as it is (JetPack's TensorRT, for one). What is missing comes
    from the internet, or from wheels that are fetched here and carried along where the board has none.

    Args:
        board: where.
        facts: what the board is.
        extras: the parts of adq-edge that the work needs, `jetson` for one.
        log: the file that gets what was written there, where it fails.

    Raises:
        HostError: it cannot be installed there.
        MissingDependencyError: what runs here is not installed, or there is no pip.
        StorageError: the wheels cannot be kept here.
    """
    requirements = device_requirements(platform_of(facts), extras)
    with tempfile.TemporaryDirectory() as folder:
        wheel = write_wheel(Path(folder))
        key = hashlib.sha256(
            "\n".join([facts.python, *requirements]).encode() + wheel.read_bytes()
        ).hexdigest()
        if facts.installed != key:
            if not facts.venv:
                raise HostError(
                    "its Python cannot make environments",
                    where=board.host,
                    fix="Install it there: sudo apt install python3-venv",
                )
            _install(board, facts, wheel, requirements, log)
            board.ask("mark", key=key)


def _install(board: Board, facts: Facts, wheel: Path, requirements: Sequence[str], log: Path) -> None:
    first = ended = run_job(board, _job(facts, wheel, requirements, ()), _NO_RESULTS)
    if _lacks_internet(first):
        try:
            carried = _carried(board, facts, requirements)
        except HostError as error:
            fix = ". ".join([*([error.fix] if error.fix else []), _keep_log(log, first)])
            raise HostError(error.what, where=board.host, fix=fix) from error
        ended = run_job(board, _job(facts, wheel, requirements, carried), _NO_RESULTS)
    if ended.state != "done":
        tries = (first,) if ended is first else (first, ended)
        raise describe_failure(board.host, ended, fix=_keep_log(log, *tries))


def _keep_log(log: Path, *tries: Ended) -> str:
    """Write what a failed installation wrote; return where that is, or that it could not be kept."""
    try:
        write_bytes(log, "\n".join(ended.log for ended in tries).encode("utf-8"))
    except StorageError as error:  # no reason to hide why the board failed
        return f"What was written there could not be kept in {log} ({error.what})"
    return f"What was written there is in {log}"


def _lacks_internet(ended: Ended) -> bool:
    """Return True if packages could not be got, and not something else failed: a compiler, for one."""
    if ended.state != "failed" or ended.step != _DEPENDENCIES or ended.filled_disk:
        return False
    # A warning is of something that pip tried again, or did without.
    lines = [line for line in ended.last_words.splitlines() if not line.lstrip().startswith("WARNING: ")]
    return any(map(_NOT_GOT.search, lines))


def _carried(board: Board, facts: Facts, requirements: Sequence[str]) -> List[Path]:
    board.show("fetch wheels here: the board has no internet")
    platform = platform_of(facts)
    return fetch_wheels(requirements, platform, _CACHE.expanduser() / platform.name)


def _job(facts: Facts, wheel: Path, requirements: Sequence[str], carried: Sequence[Path]) -> Job:
    python = _python(facts)
    pinned = constraints()
    files: Dict[str, Path] = {f"work/{wheel.name}": wheel}
    files.update({f"work/wheels/{path.name}": path for path in carried})
    if pinned is not None:
        files[_CONSTRAINTS] = pinned
    steps = (
        Step("install", (("rm", "-f", f"{facts.root}/installed.json"),)),
        Step(
            "make an environment",
            (
                (python, "-m", "pip", "--version"),
                (facts.executable, "-m", "venv", "--clear", "--system-site-packages", f"{facts.root}/env"),
            ),
        ),
        Step(_DEPENDENCIES, _ways(python, (PIP,), None, carried)),
        *_preparation(python, pinned, carried),
        Step(_DEPENDENCIES, _ways(python, requirements, pinned, carried)),
        Step(
            "install adq-edge",
            ((python, *_PIP, "--no-index", "--no-deps", "--force-reinstall", wheel.name),),
        ),
    )
    spare = _SPARE_MB if facts.installed is not None else _SPARE_MB_FIRST
    return Job("install", files, steps, path=_CUDA, spare_mb=spare)


def _preparation(python: str, pinned: Optional[Path], carried: Sequence[Path]) -> Tuple[Step, ...]:
    """Return the step that installs what the sources among the wheels carried along are built with.

    pip builds a package before it installs any, and without build isolation it gets no tools for that itself.
    """
    tools = needed_to_build(carried)
    if not tools:
        return ()
    # Upgraded, as a new environment has the setuptools that its Python came with.
    options = ("--upgrade", "--only-binary", ":all:", *_offline(pinned))
    return (Step(_DEPENDENCIES, ((python, *_PIP, *options, *tools),)),)


def _ways(
    python: str, requirements: Sequence[str], pinned: Optional[Path], carried: Sequence[Path]
) -> Tuple[Tuple[str, ...], ...]:
    """Return how to get packages: those that are there, else the internet's or those carried along."""
    if carried:
        return ((python, *_PIP, "--no-build-isolation", *_offline(pinned), *requirements),)
    online = ("--retries", "1", "--timeout", "15", *_versions(pinned))
    return ((python, *_PIP, "--no-index", *requirements), (python, *_PIP, *online, *requirements))


def _offline(pinned: Optional[Path]) -> Tuple[str, ...]:
    return ("--no-index", "--find-links", "wheels", *_versions(pinned))


def _versions(pinned: Optional[Path]) -> Tuple[str, ...]:
    return () if pinned is None else ("--constraint", Path(_CONSTRAINTS).name)
