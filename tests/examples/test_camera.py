"""The camera example judges each frame of a recorded video, and fails safe."""

from __future__ import annotations

import os
from pathlib import Path
from typing import List

import cv2
import numpy as np
import pytest

from adq_edge.builders.build import build
from factories.examples import EXAMPLES, python
from factories.paths import REPOSITORY

SCRIPT = EXAMPLES / "camera" / "inspect_camera.py"


@pytest.fixture(scope="module")
def engine(tiny_bundle, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("engines") / "tiny.onnx"
    return build(tiny_bundle.path, path, precision="fp32", fit=dataset).path


def write_video(path: Path, frames: List[np.ndarray]) -> None:
    """Write RGB frames without loss of their main colors."""
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10.0, (width, height))
    assert writer.isOpened()
    for frame in frames:
        writer.write(frame[:, :, ::-1])
    writer.release()


def inspect(engine: Path, source: object) -> object:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return python([SCRIPT, engine, source], environment)


def test_each_frame_of_a_video_gets_a_verdict(engine: Path, dataset: Path, tmp_path: Path):
    good = cv2.imread(str(sorted(dataset.rglob("part0/train/good/*.png"))[0]))[:, :, ::-1]
    good = cv2.resize(np.ascontiguousarray(good), (128, 96))
    noise = np.random.default_rng(0).integers(0, 256, good.shape, np.uint8)
    write_video(tmp_path / "line.avi", [good, noise, good])
    done = inspect(engine, tmp_path / "line.avi")
    assert done.returncode == 0, done.stderr
    first, second, third = done.stdout.splitlines()
    assert first == third
    assert first.startswith("good part0 0.")
    assert second.startswith(("defective", "unknown product"))
    assert "[(" in second, "no region"


def test_wrong_number_of_arguments_prints_the_usage():
    done = python([SCRIPT, "engine.onnx"], {**os.environ, "PYTHONPATH": str(REPOSITORY)})
    assert done.returncode == 1
    assert done.stderr.startswith("Print a verdict for each frame: python inspect_camera.py ENGINE")
    assert len(done.stderr.splitlines()) == 1


def test_missing_camera_or_video_ends_with_an_error(engine: Path, tmp_path: Path):
    done = inspect(engine, tmp_path / "missing.avi")
    assert done.returncode == 1
    assert not done.stdout
    assert "missing.avi: no camera and no video file that OpenCV can read" in done.stderr
