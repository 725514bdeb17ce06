from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from adq_edge.core.files import temporary_folder

KILLED = """
import os
from adq_edge.core.files import temporary_folder
with temporary_folder() as folder:
    (folder / "engine").write_bytes(b"x")
    os.kill(os.getpid(), 9)
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_scratch_folder_of_a_killed_process_is_deleted_by_the_next_one(place: Path):
    environment = {**os.environ, "TMPDIR": str(place)}
    subprocess.run([sys.executable, "-c", KILLED], env=environment)
    assert len(list(place.iterdir())) == 1
    with temporary_folder() as folder:
        assert list(place.iterdir()) == [folder.parent]
    assert list(place.iterdir()) == []


def test_scratch_folders_in_use_and_folders_of_users_stay(place: Path):
    for name in ("adq-edge-results1", "adq-edge-abcdefgh", "adq-edge-01234567"):
        (place / name / "files").mkdir(parents=True)
    (place / "adq-edge-abcdefgh" / "lock").touch()
    (place / "adq-edge-abcdefgh" / "thesis").touch()
    (place / "adq-edge-abcdefgi").symlink_to("adq-edge-01234567")
    with temporary_folder() as first, temporary_folder() as second:
        assert first.is_dir()
        assert second.is_dir()
    assert len(list(place.iterdir())) == 4
