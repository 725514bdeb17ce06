"""SIGKILL at random moments: the files are the old or the new ones, the command runs again, nothing is left.

`make kill` kills 200 times (ADQ_EDGE_KILLS); `make test` a few times.
"""

from __future__ import annotations

import math
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from adq_edge.artifacts.bundle import open_bundle
from adq_edge.artifacts.products import products_path, read_products
from adq_edge.artifacts.sidecar import read_sidecar
from adq_edge.core.files import CONTAINER, settle
from adq_edge.evaluation.evaluate import Evaluation, evaluate
from factories.images import write_dataset
from factories.tiny_engine import write_engine

KILLS = int(os.environ.get("ADQ_EDGE_KILLS", "6"))

COMMANDS = {
    "eval": "eval engines/e.onnx --data data -o results/r.json",
    "compare": "compare engines/e.onnx engines/f.onnx --data data -o results/c.json",
    "predict": "predict engines/e.onnx data/part0/test/spot -o maps",
    "fit": "fit engines/f.onnx --data data",
    "build": "build b -o engines/built.onnx --fp32",
    "calibrate": "calibrate b --calib minmax --calib-data random-normal --samples 4",
    "analyze": "analyze b --calib minmax --calib-data data --samples 4 --images 2 -o results/a.json",
    "export": "export c.pt -o b",
    "synthetic": "synthetic set --train 1 --good 1 --defective 1 --size 64",
    "doctor": "doctor -o results/d.json",
    "bench": "bench engines/e.onnx --quick --scenario single-stream",
    "report": "report results/old.json -o report",
    "train": "train --data data --teacher-weights demo --epochs 2 --image-size 64 --validation 0 -o t.pt",
}
_ALL_FROM = 50
"""Number of kills from which on all commands are killed."""

CHEAP = ("eval", "predict", "fit")
"""The commands that `make test` kills; the others import torch or build a network."""

NAMES = tuple(COMMANDS) if KILLS >= _ALL_FROM else CHEAP
MADE_ONCE = {"synthetic": "set", "train": "t.*"}
"""What is deleted before a command, which otherwise refuses it or goes on with it."""


def require_pairs(work: Path) -> None:
    """Check that files that belong together are of one state."""
    for engine in (work / "engines").glob("*.onnx"):
        read_sidecar(engine)
    if (work / "b" / "manifest.json").exists() or (work / "b" / "model.onnx").exists():
        open_bundle(work / "b")
    fitted = work / "engines" / "f.onnx"
    products = read_products(fitted, read_sidecar(fitted).engine_sha256)
    assert products is None or products.names == ("part0",)
    result, engine = work / "results" / "r.json", work / "engines" / "e.onnx"
    threshold = read_sidecar(engine).threshold
    if result.exists() and Evaluation.read(result).engine.sha256 == read_sidecar(engine).engine_sha256:
        assert threshold is not None
    for stem in ("a", "c"):
        images = list((work / "results").glob(f"{stem}.[pj][np]g"))
        assert bool(images) == (work / "results" / f"{stem}.json").exists()
    settle(work / "report" / "report.html")  # a browser does not complete a change, but each file is whole
    assert len({bool(list((work / "report").glob(f"*.{suffix}"))) for suffix in ("html", "md", "csv")}) == 1
    if (work / "t.pt").exists():
        from adq_edge.models.checkpoint import load_checkpoint

        load_checkpoint(work / "t.pt")


def run(work: Path, command: str, seconds: float) -> float:
    """Run a command and kill it after some seconds; return its duration in s."""
    started = time.monotonic()
    running = subprocess.Popen(
        [sys.executable, "-m", "adq_edge", *command.split()],
        cwd=str(work),
        env={**os.environ, "TMPDIR": str(work / "tmp")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        code = running.wait(seconds)
        assert code == 0, command
    except subprocess.TimeoutExpired:
        running.kill()
        running.wait()
    return time.monotonic() - started


def write_work(work: Path) -> None:
    write_dataset(work / "data", categories=1)
    for name in ("e", "f"):
        write_engine(work / "engines" / f"{name}.onnx", weights_mb=1)
    (work / "tmp").mkdir()
    evaluate(work / "engines" / "e.onnx", work / "data", output=work / "results" / "old.json")  # a threshold


@pytest.fixture
def work(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    write_work(tmp_path)
    if KILLS >= _ALL_FROM:
        shutil.copy(str(request.getfixturevalue("checkpoint")), str(tmp_path / "c.pt"))
        shutil.copytree(str(request.getfixturevalue("bundle").path), str(tmp_path / "b"))
    return tmp_path


def delete_results(work: Path, name: str) -> None:
    for path in work.glob(MADE_ONCE.get(name, "nothing")):
        shutil.rmtree(str(path)) if path.is_dir() else path.unlink()


@pytest.mark.parametrize("name", NAMES)
def test_killed_command_leaves_old_or_new_files(work: Path, name: str):
    generator = random.Random(name)
    duration = run(work, COMMANDS[name], 120.0)
    for _ in range(math.ceil(KILLS / len(NAMES))):
        delete_results(work, name)
        # The files are written at the end of a command: half of the kills hit its last fifth.
        share = generator.choice([generator.uniform(0.0, 1.0), generator.uniform(0.8, 1.05)])
        run(work, COMMANDS[name], share * duration)
        require_pairs(work)
        assert name != "fit" or products_path(work / "engines" / "f.onnx").exists()
        if name != "train":  # the same command goes on
            delete_results(work, name)
        duration = min(duration, run(work, COMMANDS[name], 120.0))
        require_pairs(work)
        homes = [path.parent for path in work.rglob(CONTAINER)]
        assert not homes
        left = sorted(path.name for path in (work / "tmp").glob("adq-edge-*"))
        assert not left
