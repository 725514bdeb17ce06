"""The Makefile installs for each target what that target uses."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from factories.paths import REPOSITORY

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


def planned(target: str, folder: Path, *variables: str) -> str:
    """Return the commands that a target would run with an empty environment."""
    command = ["make", "--dry-run", target, f"VENV={folder / 'venv'}", *variables]
    return subprocess.run(command, cwd=str(REPOSITORY), check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize(
    ("target", "extras"),
    [
        ("demo", "[train]"),
        ("venv", "[train]"),
        ("dev", "[train,openvino,serve,station,dev,docs]"),
        ("fuzz", "[train,openvino,serve,station,dev,docs]"),
    ],
)
def test_target_installs_only_what_it_uses_and_shows_progress(target: str, extras: str, tmp_path: Path):
    commands = planned(target, tmp_path)
    assert f"'.{extras}'" in commands.replace(",rtx]", "]")
    assert "--quiet" not in commands


def test_torch_is_the_cpu_build_unless_cuda_is_wanted(tmp_path: Path):
    assert "--extra-index-url https://download.pytorch.org/whl/cpu torch" in planned("venv", tmp_path)
    assert "extra-index-url" not in planned("venv", tmp_path, "TORCH=cuda")


def test_inspection_pc_is_installed_without_torch(tmp_path: Path):
    commands = planned("venv", tmp_path, "EXTRAS=")
    assert "--editable '.'" in commands
    assert "torch" not in commands


def test_another_choice_of_extras_is_installed_into_an_environment_that_exists(tmp_path: Path):
    (tmp_path / "venv").mkdir()
    (tmp_path / "venv" / ".with-train").touch()
    assert "pip install" not in planned("venv", tmp_path)
    assert "'.[train,openvino]'" in planned("venv", tmp_path, "EXTRAS=train,openvino")


def test_environment_of_developers_serves_all_others(tmp_path: Path):
    stamps = [tmp_path / "venv" / name for name in (".with-", ".with-train", ".with-train-openvino", ".dev")]
    assert f"touch {' '.join(map(str, stamps))}" in planned("dev", tmp_path)
    (tmp_path / "venv").mkdir()
    for stamp in stamps:
        stamp.touch()
    assert "pip install" not in planned("demo", tmp_path) + planned("venv", tmp_path)
