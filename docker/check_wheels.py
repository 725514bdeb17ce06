"""Check that the device half installs on Jetsons from wheels alone (`make wheels`); needs the network.

Checks all direct and indirect dependencies for each JetPack, at the versions that constraints.txt pins.
`pip install --python-version` selects wheels for another Python, but evaluates environment markers with its
own. So this script asks pip for each package without dependencies, and resolves the dependencies itself from
pip's reports. Runs on Python 3.11 and later.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Dict, Iterable, List, Sequence, Set

import tomllib
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).resolve().parents[1]

# pycuda has no wheels; the device compiles it. Its dependencies, as its setup.py lists them.
FROM_SOURCE = {"pycuda": ("mako", "numpy", "platformdirs>=2.2.0", "pytools>=2011.2")}


@dataclasses.dataclass(frozen=True)
class Board:
    """Python and C library of a JetPack.

    Attributes:
        name: name in messages.
        python: its Python, major and minor.
        glibc: minor version of its glibc 2.
    """

    name: str
    python: str
    glibc: int

    @property
    def environment(self) -> Dict[str, str]:
        """The values of environment markers on this board."""
        return {
            "implementation_name": "cpython",
            "implementation_version": f"{self.python}.0",
            "os_name": "posix",
            "platform_machine": "aarch64",
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": f"{self.python}.0",
            "python_version": self.python,
            "sys_platform": "linux",
            "extra": "",
        }

    @property
    def pip_options(self) -> List[str]:
        """The options that make pip choose wheels for this board."""
        tags = [f"manylinux_2_{minor}_aarch64" for minor in range(self.glibc, 16, -1)]
        platforms = [option for tag in (*tags, "manylinux2014_aarch64") for option in ("--platform", tag)]
        abi = "cp" + self.python.replace(".", "")
        return ["--python-version", self.python, "--implementation", "cp", "--abi", abi, *platforms]


BOARDS = (
    Board("JetPack 5", "3.8", 31),
    Board("JetPack 6", "3.10", 35),
    Board("JetPack 7", "3.12", 39),
)


@dataclasses.dataclass
class Answer:
    """Result for a board: wheels by package, and problems."""

    wheels: Dict[str, str] = dataclasses.field(default_factory=dict)
    problems: List[str] = dataclasses.field(default_factory=list)


def device_requirements(pyproject: Path) -> List[str]:
    """Return the requirements of `pip install '.[jetson]'`."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    return [*project["dependencies"], *project["optional-dependencies"]["jetson"]]


def read_pins(constraints: Path, board: Board) -> Dict[str, str]:
    """Return the version that is pinned for a board's Python, by package."""
    pins = {}
    for line in constraints.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            pin = Requirement(line)
            if pin.marker is None or pin.marker.evaluate(board.environment):
                pins[canonicalize_name(pin.name)] = str(pin.specifier).lstrip("=")
    return pins


def applying(requirements: Iterable[str], extras: Iterable[str], board: Board) -> List[Requirement]:
    """Return the requirements that apply on a board to a package with these extras."""
    environments = [{**board.environment, "extra": extra} for extra in ("", *extras)]
    parsed = [Requirement(line) for line in requirements]
    return [r for r in parsed if r.marker is None or any(map(r.marker.evaluate, environments))]


def check(requirements: Sequence[str], pins: Dict[str, str], board: Board) -> Answer:
    """Resolve the requirements, level by level, and ask pip for a wheel of each."""
    answer = Answer()
    extras: Dict[str, Set[str]] = {}
    waiting = applying(requirements, (), board)
    while waiting:
        generation = {}
        for requirement in waiting:
            name = canonicalize_name(requirement.name)
            if name not in pins:
                answer.problems.append(f"{name} is not pinned for Python {board.python} in constraints.txt")
            elif not requirement.specifier.contains(pins[name], prereleases=True):
                answer.problems.append(f"{name}=={pins[name]} is pinned, {requirement} is needed")
            elif name not in extras or requirement.extras - extras[name]:
                extras[name] = extras.get(name, set()) | requirement.extras
                generation[name] = f"{name}=={pins[name]}"
        needs = _find_wheels(generation, board, answer)
        waiting = [r for name, lines in needs.items() for r in applying(lines, extras[name], board)]
    return answer


def _find_wheels(generation: Dict[str, str], board: Board, answer: Answer) -> Dict[str, Sequence[str]]:
    """Return the dependencies of each package; record its wheel or its problem in `answer`."""
    needs: Dict[str, Sequence[str]] = {name: FROM_SOURCE[name] for name in generation if name in FROM_SOURCE}
    answer.wheels.update(dict.fromkeys(needs, "compiled on the device"))
    wanted = [pin for name, pin in generation.items() if name not in FROM_SOURCE]
    reports, error = _ask_pip(wanted, board)
    if error:  # at least one failed: ask for each, to report them all
        for pin in wanted:
            found, error = _ask_pip([pin], board)
            reports += found
            if error:
                answer.problems.append(f"{pin}: {error}")
    for report in reports:
        name = canonicalize_name(report["metadata"]["name"])
        answer.wheels[name] = report["download_info"]["url"].rpartition("/")[2]
        needs[name] = report["metadata"].get("requires_dist", [])
    return needs


def _ask_pip(pins: Sequence[str], board: Board) -> tuple[list, str]:
    """Return pip's report on each pin, and its last error line if it found no wheel for one."""
    if not pins:
        return [], ""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--no-deps"]
        command += ["--only-binary", ":all:", "--target", folder, "--report", str(report), "--quiet"]
        done = subprocess.run(
            [*command, *board.pip_options, *pins], capture_output=True, text=True, check=False
        )
        if done.returncode:
            return [], (done.stderr.strip().splitlines() or ["pip failed without a message"])[-1]
        return json.loads(report.read_text(encoding="utf-8"))["install"], ""


def main() -> int:
    """Print the result for every board; return 1 if anything is missing."""
    requirements = device_requirements(REPOSITORY / "pyproject.toml")
    failed = False
    for board in BOARDS:
        answer = check(requirements, read_pins(REPOSITORY / "constraints.txt", board), board)
        print(f"{board.name}: CPython {board.python}, aarch64, glibc 2.{board.glibc}")
        for name, wheel in sorted(answer.wheels.items()):
            print(f"  {name:24} {wheel}")
        for problem in answer.problems:
            print(f"  MISSING: {problem}")
        failed = failed or bool(answer.problems)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
