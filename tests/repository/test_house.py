"""The layout and the language that ARCHITECTURE.md and CONTRIBUTING.md describe."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from factories.paths import REPOSITORY

PACKAGE = REPOSITORY / "adq_edge"
MODULES = sorted(path for path in PACKAGE.rglob("*.py"))
RIDDLES = re.compile(r"Tell whether|\bSay that\b|[Ll]eave --?\w[\w-]* away|that (is|are) none|engine to be\b")


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("importlinter", reason="import-linter is a tool for developers")
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=str(folder), capture_output=True, text=True, timeout=120)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Copy the package's source, with the contract."""
    ignore = shutil.ignore_patterns("__pycache__", "weights")
    shutil.copytree(str(PACKAGE), str(tmp_path / "adq_edge"), ignore=ignore)
    shutil.copy(str(REPOSITORY / "pyproject.toml"), str(tmp_path))
    return tmp_path


def test_planted_import_upwards_breaks_the_floors(copy: Path):
    with (copy / "adq_edge" / "core" / "text.py").open("a") as module:
        module.write("from adq_edge.metrics.quality import image_auroc as image_auroc\n")
    result = lint_imports(copy)
    assert result.returncode == 1
    assert "adq_edge.core is not allowed to import adq_edge.metrics" in result.stdout


def test_rooms_are_few_and_the_root_holds_only_the_face():
    rooms = [path for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()]
    assert len(rooms) <= 28
    assert {path.name for path in PACKAGE.glob("*.py")} == {"__init__.py", "__main__.py"}


def test_no_module_is_too_long():
    long = [path.name for path in MODULES if len(path.read_text(encoding="utf-8").splitlines()) > 400]
    assert not long


def test_package_says_image_and_not_picture():
    pictures = [
        f"{path.relative_to(PACKAGE)}: {line.strip()}"
        for path in MODULES
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.search(r"pictur", line, re.IGNORECASE) and "older=" not in line and '"--pictures"' not in line
    ]
    assert not pictures


def test_words_of_the_earlier_private_language_do_not_occur():
    found = [
        f"{path.relative_to(PACKAGE)}: {match.group()}"
        for path in MODULES
        for match in RIDDLES.finditer(path.read_text(encoding="utf-8"))
    ]
    assert not found
