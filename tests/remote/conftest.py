from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from factories.shared import shared_folder


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a virtual environment for boards on which its creation is not tested."""

    def make(folder: Path) -> None:
        options = ("-m", "venv", "--system-site-packages")
        subprocess.run([sys.executable, *options, str(folder / "env")], check=True)

    return shared_folder("environment", make, tmp_path_factory) / "env"
