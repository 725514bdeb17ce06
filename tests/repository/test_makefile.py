"""The Makefile installs for each target what that target uses."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from factories.paths import REPOSITORY

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


def planned(target: str, folder: Path) -> str:
    """Return the commands that a target would run with an empty environment."""
    command = ["make", "--dry-run", target, f"VENV={folder / 'venv'}"]
    return subprocess.run(command, cwd=str(REPOSITORY), check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize(
    ("target", "extras"), [("demo", "train"), ("venv", "train,openvino"), ("dev", "train,openvino,dev,docs")]
)
def test_target_installs_only_what_it_uses_and_shows_progress(target: str, extras: str, tmp_path: Path):
    commands = planned(target, tmp_path)
    assert f"'.[{extras}]'" in commands.replace(",rtx]", "]")
    assert "--quiet" not in commands


def test_environment_of_a_larger_target_serves_a_smaller_one(tmp_path: Path):
    stamps = [tmp_path / "venv" / name for name in (".demo", ".complete", ".dev")]
    assert f"touch {' '.join(map(str, stamps))}" in planned("dev", tmp_path)
    (tmp_path / "venv").mkdir()
    for stamp in stamps:
        stamp.touch()
    assert "pip install" not in planned("demo", tmp_path) + planned("venv", tmp_path)
