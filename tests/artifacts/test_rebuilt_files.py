"""Readers of files that another process replaces again and again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Iterator

import pytest

from adq_edge.artifacts.sidecar import read_sidecar
from adq_edge.core.files import sha256
from adq_edge.runtimes.registry import load_engine
from factories.tiny_engine import write_engine

WRITER = """
import itertools, sys
from pathlib import Path
from adq_edge.core.files import write_bytes, write_together
place = Path(sys.argv[1])
states = [{name: (place / state / name).read_bytes() for name in ("e.onnx", "e.onnx.json")} for state in "ab"]
print(flush=True)
for state in itertools.cycle(states):
    with write_together():
        for name, content in state.items():
            write_bytes(place / name, content)
"""


@pytest.fixture
def rebuilt(tmp_path: Path) -> Iterator[Path]:
    """Return an engine that another process replaces, with its sidecar, all the time."""
    for weights_mb, state in enumerate(("a", "b", "."), 1):
        write_engine(tmp_path / state / "e.onnx", weights_mb=weights_mb)
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=dict(os.environ)) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        yield tmp_path / "e.onnx"
        assert writer.poll() is None
        writer.kill()


def test_reader_never_sees_an_engine_with_the_sidecar_of_another(rebuilt: Path):
    before = rebuilt.stat().st_ino
    for _ in range(100):
        read_sidecar(rebuilt)
    assert rebuilt.stat().st_ino != before


def test_engine_is_loaded_while_it_is_rebuilt(rebuilt: Path):
    built = {sha256(rebuilt.parent / state / "e.onnx") for state in "ab."}
    for _ in range(25):
        assert load_engine(rebuilt).sidecar.engine_sha256 in built
