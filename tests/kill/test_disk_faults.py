"""A disk that fails at one call of a whole command: the old files stay, one line says why, nothing is left.

`make kill` lets each call of every command fail; `make test` a few calls of the cheap ones.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from pathlib import Path
from typing import Dict, Iterator

import pytest

from factories.command_line import run_cli
from factories.failing_disk import failing_disk
from factories.images import leftovers, write_dataset
from factories.tiny_engine import write_engine

IS_WHOLE = int(os.environ.get("ADQ_EDGE_KILLS", "0")) >= 50
FOREVER = 10**6

CHEAP = {
    "eval": "eval engines/e.onnx --data data -o results/r.json",
    "predict": "predict engines/e.onnx data/part0/test/spot -o maps",
    "compare": "compare engines/e.onnx engines/f.onnx --data data --sheet results/c.png -o results/c.json",
    "report": "report results/old.json -o report",
}
COSTLY = {
    "build": "build b -o engines/e.onnx --fp32",
    "calibrate": "calibrate b --calib minmax --calib-data random-normal --samples 4",
    "analyze": "analyze b --calib minmax --calib-data data --samples 4 --images 2 -o results/a.json",
    "export": "export c.pt -o b",
    "bench": "bench engines/e.onnx --quick --scenario single-stream",
}
COMMANDS = {**CHEAP, **(COSTLY if IS_WHOLE else {})}


def contents(folder: Path) -> Dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def work(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "work"
    write_dataset(folder / "data", categories=1)
    for name in ("e", "f"):
        write_engine(folder / "engines" / f"{name}.onnx")
    assert (
        run_cli("eval", "engines/e.onnx", "--data", "data", "-o", "results/old.json", cwd=folder).returncode
        == 0
    )
    if IS_WHOLE:
        shutil.copy(str(request.getfixturevalue("checkpoint")), str(folder / "c.pt"))
        shutil.copytree(str(request.getfixturevalue("tiny_bundle").path), str(folder / "b"))
    (folder / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder / "tmp"))
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    shutil.copytree(str(folder), str(tmp_path / "before"))
    return folder


def restore(work: Path) -> None:
    shutil.rmtree(str(work))
    shutil.copytree(str(work.with_name("before")), str(work))


def chosen_calls(count: int) -> Iterator[int]:
    return iter(range(1, count + 1) if IS_WHOLE else sorted({1, count // 3, count // 2, count - 2, count}))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("name", COMMANDS)
def test_failing_call_leaves_the_old_files_and_one_line(work: Path, name: str, number: int):
    command = COMMANDS[name].split()
    before = contents(work)
    with failing_disk(FOREVER, 1) as calls:
        done = run_cli(*command, cwd=work)
    assert done.returncode == 0, done.stderr
    for call in chosen_calls(next(calls) - 1):
        restore(work)
        with failing_disk(call, 1, number):
            done = run_cli(*command, cwd=work)
        where = (name, call, done.stderr)
        assert not leftovers(work), where
        assert not list((work / "tmp").iterdir()), where
        if done.returncode == 0:  # a call that need not succeed
            continue
        assert done.returncode == 2, where
        after = contents(work)
        if name in ("predict", "analyze"):  # finished heat maps, and ranges of the calibration, stay
            after = {path: after[path] for path in before}
        assert after == before, where
        assert "Traceback" not in done.stderr, where
        last = done.stderr.splitlines()[-1]
        assert last.startswith("adq-edge: "), where
        assert os.strerror(number).lower() in last, where
