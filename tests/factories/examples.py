"""The packages in `examples/`, installed as a user installs them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Dict, Sequence

from factories.paths import REPOSITORY

EXAMPLES = REPOSITORY / "examples"
PACKAGES = ("calibrator", "method", "runtime")
PIP = (sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
OFFLINE = ("--no-deps", "--no-build-isolation", "--no-index")


def install_examples(folder: Path) -> Path:
    """Install the packages and return the folder in which Python finds them."""
    copies = [folder / name for name in PACKAGES]  # setuptools writes into the source folder
    for copy in copies:
        shutil.copytree(str(EXAMPLES / copy.name), str(copy))
    target = folder / "target"
    command = [*PIP, *OFFLINE, "--target", str(target), *map(str, copies)]
    subprocess.run(command, check=True, capture_output=True)
    return target


def python(
    arguments: Sequence[object], environment: Dict[str, str], **options: object
) -> subprocess.CompletedProcess:
    """Run Python with arguments; the options are those of `subprocess.run`."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        **options,
    )
