"""adq-edge on a board: one environment in its cache folder, brought up to date when something changed."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

from adq_edge.remote.board import Board, Facts
from adq_edge.remote.errors import HostError
from adq_edge.remote.jobs import Ended, Job, Step, describe_failure, run_job
from adq_edge.remote.requirements import (
    PIP,
    constraints,
    device_requirements,
    fetch_wheels,
    platform_of,
)
from adq_edge.remote.wheel import write_wheel

_CACHE = Path("~/.cache/adq-edge/wheels")
_DEPENDENCIES = "install what adq-edge needs"
_CONSTRAINTS = "work/constraints.txt"
_PIP = ("-m", "pip", "install", "--disable-pip-version-check", "--no-cache-dir")
_CUDA = "/usr/local/cuda/bin"
"""JetPack's compiler, which pycuda is built with, is on no PATH there."""
_SPARE_MB = 100.0
_SPARE_MB_FIRST = 1500.0
"""ONNX Runtime, OpenCV and numpy, unpacked, with what pip needs meanwhile."""


def command_there(facts: Facts) -> Tuple[str, ...]:
    """Return what runs adq-edge on a board once it is installed."""
    return (_python(facts), "-m", "adq_edge")


def _python(facts: Facts) -> str:
    return f"{facts.root}/env/bin/python"


def install(board: Board, facts: Facts, extras: Sequence[str]) -> None:
    """Install or update adq-edge on a board.

    What the board's Python has already is taken as it is (JetPack's TensorRT, for one). What is missing comes
    from the internet, or from wheels that are fetched here and carried along where the board has none.

    Args:
        board: where.
        facts: what the board is.
        extras: the parts of adq-edge that the work needs, `jetson` for one.

    Raises:
        HostError: it cannot be installed there.
        MissingDependencyError: what runs here is not installed, or there is no pip.
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
            ended = _run(board, facts, wheel, requirements, ())
            if ended.state == "failed" and ended.step == _DEPENDENCIES and not ended.filled_disk:
                ended = _run(board, facts, wheel, requirements, _carried(board, facts, requirements))
            if ended.state != "done":
                raise describe_failure(board.host, ended)
            board.ask("mark", key=key)


def _carried(board: Board, facts: Facts, requirements: Sequence[str]) -> List[Path]:
    board.show("fetch wheels here: the board has no internet")
    platform = platform_of(facts)
    return fetch_wheels(requirements, platform, _CACHE.expanduser() / platform.name)


def _run(
    board: Board, facts: Facts, wheel: Path, requirements: Sequence[str], carried: Sequence[Path]
) -> Ended:
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
        Step(_DEPENDENCIES, _ways(python, requirements, pinned, carried)),
        Step(
            "install adq-edge",
            ((python, *_PIP, "--no-index", "--no-deps", "--force-reinstall", wheel.name),),
        ),
    )
    spare = _SPARE_MB if facts.installed is not None else _SPARE_MB_FIRST
    return run_job(board, Job("install", files, steps, path=_CUDA, spare_mb=spare), "work/none")


def _ways(
    python: str, requirements: Sequence[str], pinned: Optional[Path], carried: Sequence[Path]
) -> Tuple[Tuple[str, ...], ...]:
    """Return how to get packages: those that are there, else the internet's or those carried along."""
    versions = () if pinned is None else ("--constraint", Path(_CONSTRAINTS).name)
    if carried:
        # What is compiled finds setuptools and wheel among them: no environment has to be fetched for it.
        options = ("--no-index", "--find-links", "wheels", "--no-build-isolation")
        return ((python, *_PIP, *options, *versions, *requirements),)
    online = ("--retries", "1", "--timeout", "15")
    return (
        (python, *_PIP, "--no-index", *requirements),
        (python, *_PIP, *online, *versions, *requirements),
    )
