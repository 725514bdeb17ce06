"""The packages that adq-edge needs on a board, and their wheels for a board without internet.

`pip download --python-version` chooses wheels for another Python version, but evaluates environment markers
for the running Python. Therefore pip downloads each package alone, and this module resolves dependencies.
"""

from __future__ import annotations

import dataclasses
import fcntl
import subprocess
import sys
import threading
import zipfile
from email.parser import HeaderParser
from pathlib import Path
from typing import Dict, Iterable, List, NamedTuple, Optional, Sequence, Set, Tuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from adq_edge.core.errors import MissingDependencyError
from adq_edge.core.files import storage_errors
from adq_edge.remote.board import BoardInfo
from adq_edge.remote.errors import HostError, last_error
from adq_edge.remote.wheel import distribution

PIP = "pip>=21"
"""Earlier versions reject wheels for newer glibc versions, such as those of ONNX Runtime."""

_CONSTRAINTS = "constraints.txt"
_PACKAGE = Path(__file__).resolve().parents[1]
_OLDEST_GLIBC = 17
_PARSING = threading.Lock()


class SourcePackage(NamedTuple):
    """Build and runtime requirements of a package without wheels."""

    to_build: Tuple[str, ...]
    to_run: Tuple[str, ...] = ()


_FROM_SOURCE = {
    # The board compiles it with its own CUDA.
    "pycuda": SourcePackage(
        ("numpy", "setuptools", "wheel"), ("mako", "platformdirs>=2.2.0", "pytools>=2011.2")
    )
}


@dataclasses.dataclass(frozen=True)
class Platform:
    """The properties of a board that select its wheels: Python, architecture and minor version of glibc."""

    python: Tuple[int, int]
    machine: str
    glibc: int

    @property
    def environment(self) -> Dict[str, str]:
        """The values of environment markers on the board."""
        version = "{}.{}".format(*self.python)
        return {
            "implementation_name": "cpython",
            "implementation_version": f"{version}.0",
            "os_name": "posix",
            "platform_machine": self.machine,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": f"{version}.0",
            "python_version": version,
            "sys_platform": "linux",
        }

    @property
    def pip_options(self) -> List[str]:
        """The options that make pip choose wheels for the board."""
        tags = [f"manylinux_2_{minor}_{self.machine}" for minor in range(self.glibc, _OLDEST_GLIBC - 1, -1)]
        tags += [f"manylinux2014_{self.machine}", f"linux_{self.machine}"]
        if self.machine == "x86_64":
            tags += ["manylinux2010_x86_64", "manylinux1_x86_64"]
        version = "{}{}".format(*self.python)
        chosen = ("--python-version", version, "--implementation", "cp", "--abi", f"cp{version}")
        return [*chosen, *(option for tag in tags for option in ("--platform", tag))]

    @property
    def name(self) -> str:
        """The name of the folder with wheels for this platform."""
        return "cp{}{}-{}-glibc2.{}".format(*self.python, self.machine, self.glibc)


def platform_of(info: BoardInfo) -> Platform:
    """Return the platform of a board."""
    major, minor = (int(number) for number in info.python.split(".")[:2])
    numbers = info.glibc.split(".")
    return Platform((major, minor), info.machine, int(numbers[1]) if len(numbers) > 1 else _OLDEST_GLIBC)


def device_requirements(platform: Platform, extras: Iterable[str]) -> Tuple[str, ...]:
    """Return the requirements of adq-edge and the given extras on a board, as pip arguments."""
    lines = distribution().requires or []
    return tuple(
        f"{requirement.name}{_extras(requirement)}{requirement.specifier}"
        for requirement in _applying(lines, extras, platform)
    )


def constraints() -> Optional[Path]:
    """Return the path of the constraints file with the tested package versions; None if missing."""
    places = (_PACKAGE / _CONSTRAINTS, _PACKAGE.parent / _CONSTRAINTS)
    return next((path for path in places if path.is_file()), None)


def fetch_wheels(requirements: Sequence[str], platform: Platform, folder: Path) -> List[Path]:
    """Download the wheels of requirements and their dependencies, unless `folder` already contains them.

    Args:
        requirements: the requirements, as pip arguments.
        platform: the platform of the board.
        folder: the folder for the wheels.

    Raises:
        HostError: a requirement has no wheel for the board, or this machine has no internet.
        MissingDependencyError: pip is not installed on this machine.
        StorageError: the folder cannot be written to.
    """
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("wb")
    with lock:  # boards of one platform may need the same wheels at the same time
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _fetch(requirements, platform, folder)


def build_requirements(files: Iterable[Path]) -> Tuple[str, ...]:
    """Return the requirements for building the source packages among the files of `fetch_wheels`."""
    names = (canonicalize_name(path.name.split("-")[0]) for path in files)
    sources = [_FROM_SOURCE[name] for name in names if name in _FROM_SOURCE]
    return tuple(sorted({line for source in sources for line in source.to_build}))


def _fetch(requirements: Sequence[str], platform: Platform, folder: Path) -> List[Path]:
    pins = _pins(platform)
    fetched: Dict[str, Path] = {}
    extras: Dict[str, Set[str]] = {}
    waiting = _parse((*requirements, PIP))
    while waiting:
        lines: Dict[str, str] = {}
        changed = []
        for requirement in waiting:
            name = canonicalize_name(requirement.name)
            if name not in extras or requirement.extras - extras[name]:
                extras[name] = extras.get(name, set()) | requirement.extras
                changed.append(name)
            if name not in fetched:
                lines[name] = f"{requirement.name}{pins.get(name) or requirement.specifier}"
        fetched.update(_download(lines, platform, folder))
        waiting = [
            need for name in dict.fromkeys(changed) for need in _needs(name, fetched, extras, platform)
        ]
    return sorted(fetched.values())


def _parse(lines: Iterable[str]) -> List[Requirement]:
    """Return requirements from their lines, in one thread at a time.

    `packaging` calls ast.literal_eval, which can fail with a SystemError in two threads (CPython 3.11).
    """
    with _PARSING:
        return [Requirement(line) for line in lines]


def _applying(lines: Iterable[str], extras: Iterable[str], platform: Platform) -> List[Requirement]:
    environments = [{**platform.environment, "extra": extra} for extra in ("", *extras)]
    return [r for r in _parse(lines) if r.marker is None or any(map(r.marker.evaluate, environments))]


def _extras(requirement: Requirement) -> str:
    return f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""


def _pins(platform: Platform) -> Dict[str, str]:
    file = constraints()
    lines = [] if file is None else file.read_text(encoding="utf-8").splitlines()
    stated = [line for line in lines if line.strip() and not line.startswith("#")]
    return {canonicalize_name(r.name): str(r.specifier) for r in _applying(stated, (), platform)}


def _download(lines: Dict[str, str], platform: Platform, folder: Path) -> Dict[str, Path]:
    """Return the file that pip chose for each requirement, by package."""
    wheels = [line for name, line in lines.items() if name not in _FROM_SOURCE]
    sources = [line for name, line in lines.items() if name in _FROM_SOURCE]
    paths = _run_pip(wheels, ["--only-binary", ":all:", *platform.pip_options], platform, folder)
    paths += _run_pip(sources, ["--no-binary", ",".join(_FROM_SOURCE)], platform, folder)
    return {canonicalize_name(path.name.split("-")[0]): path for path in paths}


def _run_pip(lines: Sequence[str], options: Sequence[str], platform: Platform, folder: Path) -> List[Path]:
    if not lines:
        return []
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--disable-pip-version-check"]
    done = subprocess.run(
        [*command, "--dest", str(folder), *options, *lines],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        stdin=subprocess.DEVNULL,
        check=False,
    )
    if done.returncode == 0:
        # "Saved FOLDER/NAME", or "File was already downloaded FOLDER/NAME"
        words = (Path(word).name for word in done.stdout.split() if word.endswith((".whl", ".tar.gz")))
        return [folder / name for name in dict.fromkeys(words) if (folder / name).is_file()]
    reason = last_error(done.stderr) or "pip failed without a message"
    if "No module named pip" in reason:
        what = "pip is not installed here, so no wheels for the board can be downloaded"
        raise MissingDependencyError(what, fix="Install it: python -m ensurepip")
    what = f"a wheel of {', '.join(lines)} for {platform.name} cannot be downloaded ({reason})"
    raise HostError(what, fix="Connect this machine or the board to the internet")


def _needs(
    name: str, fetched: Dict[str, Path], extras: Dict[str, Set[str]], platform: Platform
) -> List[Requirement]:
    """Return the dependencies of a package from the metadata of its wheel."""
    if name in _FROM_SOURCE:
        source = _FROM_SOURCE[name]
        return _parse((*source.to_build, *source.to_run))
    with zipfile.ZipFile(str(fetched[name])) as archive:
        member = next(member for member in archive.namelist() if member.endswith(".dist-info/METADATA"))
        message = HeaderParser().parsestr(archive.read(member).decode("utf-8", "replace"))
    return _applying(message.get_all("Requires-Dist") or [], extras[name], platform)
