"""Outputs that are inputs, other files, devices, pipes and links."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Dict, List

import pytest

from adq_edge.artifacts.sidecar import read_sidecar
from adq_edge.evaluation.evaluate import Evaluation
from factories.command_line import run_cli
from factories.images import leftovers, write_dataset
from factories.tiny_engine import write_engine


@pytest.fixture
def work(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        write_engine(tmp_path / f"{name}.onnx")
    write_dataset(tmp_path / "data", categories=1)
    (tmp_path / "link").symlink_to("a.onnx")
    os.link(str(tmp_path / "a.onnx"), str(tmp_path / "hard.onnx"))
    (tmp_path / "notes.txt").write_text("notes of a user")
    return tmp_path


def contents(folder: Path) -> Dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "command",
    [
        "eval a.onnx --data data -o a.onnx",
        "eval a.onnx --data data -o ./data/../a.onnx",
        "eval a.onnx --data data -o a.onnx.json",
        "eval a.onnx --data data -o link",
        "eval a.onnx --data data -o hard.onnx",
        "eval a.onnx --data data -o data/part0/test/good/000.png",
        "eval a.onnx --data data -o notes.txt",
        "compare a.onnx b.onnx --data data -o a.onnx",
        "compare a.onnx b.onnx --data data -o b.onnx.json",
        "compare a.onnx b.onnx --data data --sheet data/part0/test/good/000.png -o r.json",
        "doctor --json notes.txt",
    ],
)
def test_output_over_another_file_is_refused_in_one_line(work: Path, command: str):
    before = contents(work)
    done = run_cli(*command.split(), cwd=work)
    assert done.returncode == 2
    assert "and is not replaced. Move it away or choose another output." in done.stderr.splitlines()[-1]
    assert contents(work) == before
    assert not leftovers(work)


@pytest.mark.parametrize("name", ["n" * 300, "n" * 250 + ".json", "data", "notes.txt/r.json", "loop"])
def test_unusable_output_name_is_refused_in_one_line(work: Path, name: str):
    (work / "loop").symlink_to("loop")
    done = run_cli("eval", "a.onnx", "--data", "data", "-o", name, cwd=work)
    if len(name) == 255:  # the longest legal name
        assert done.returncode == 0
        return
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert len(done.stderr) < 600


def test_link_stays_and_its_file_is_written(work: Path):
    (work / "dangling").symlink_to("elsewhere/r.json")
    assert run_cli("eval", "link", "--data", "data", "-o", "dangling", cwd=work).returncode == 0
    assert (work / "dangling").is_symlink()
    assert Evaluation.read(work / "elsewhere" / "r.json").threshold is not None
    assert read_sidecar(work / "a.onnx").threshold is not None
    assert not (work / "link.json").exists()


def test_device_pipe_and_standard_output_are_written_through(work: Path):
    assert run_cli("eval", "a.onnx", "--data", "data", "-o", os.devnull, cwd=work).returncode == 0
    assert Path(os.devnull).is_char_device()
    os.mkfifo(str(work / "pipe"))
    received: List[bytes] = []
    reader = threading.Thread(target=lambda: received.append((work / "pipe").read_bytes()))
    reader.start()
    assert run_cli("eval", "a.onnx", "--data", "data", "-o", "pipe", cwd=work).returncode == 0
    reader.join(10)
    assert b'"schema": "adq-edge/eval"' in received[0]
    assert (work / "pipe").is_fifo()
    script = "from pathlib import Path; from adq_edge.core.files import write_bytes; print(1); "
    script += "write_bytes(Path('/dev/stdout'), b'2\\n'); print(3)"
    with (work / "out").open("wb") as out:
        subprocess.run([sys.executable, "-c", script], stdout=out, check=True)
    assert (work / "out").read_bytes() == b"1\n2\n3\n"
