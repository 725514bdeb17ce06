"""What OpenVINO compiles, and when."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any, List, Tuple

import numpy as np
import pytest

pytest.importorskip("openvino")

from adq_edge.core.errors import EngineError
from adq_edge.runtimes.openvino import OpenVinoEngine
from adq_edge.runtimes.registry import load_engine
from factories.tiny_engine import SIZE, write_engine


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> List[Tuple[int, int]]:
    """Return what will have been compiled: streams and batch sizes."""
    done: List[Tuple[int, int]] = []
    original = OpenVinoEngine._compile

    def note(engine: OpenVinoEngine, streams: int, batch: int) -> Any:
        done.append((streams, batch))
        return original(engine, streams, batch)

    monkeypatch.setattr(OpenVinoEngine, "_compile", note)
    return done


@pytest.fixture
def engine(tmp_path: Path, compiled: List[Tuple[int, int]]) -> OpenVinoEngine:
    loaded = load_engine(write_engine(tmp_path / "tiny.onnx"), runtime="openvino", threads=2)
    assert isinstance(loaded, OpenVinoEngine)
    return loaded


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, SIZE, SIZE, 3), np.uint8)


FAULTS = """
import resource, sys
from pathlib import Path
import cv2, numpy as np
from adq_edge.core.imaging import decode_image
from adq_edge.runtimes.registry import load_engine

engine = load_engine(Path(sys.argv[1]), runtime="openvino", threads=1)
encoded = cv2.imencode(".jpg", np.zeros((1024, 1024, 3), np.uint8))[1].tobytes()
decode_image(encoded)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    decode_image(encoded)
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / 20)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries decide for themselves")
def test_large_images_are_decoded_into_memory_that_the_process_has(tmp_path: Path):
    """A fresh process: 3 MB are 768 pages, each of which would be faulted in again."""
    engine = write_engine(tmp_path / "tiny.onnx")
    command = [sys.executable, "-c", FAULTS, str(engine)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, timeout=60)
    assert float(done.stdout) < 100


def brightness(images: np.ndarray) -> np.ndarray:
    """Return what the tiny engine makes of images."""
    return images.astype(np.float64).mean(3)


def test_batch_sizes_are_compiled_when_they_come_and_the_last_three_are_kept(
    engine: OpenVinoEngine, compiled: List[Tuple[int, int]], images: np.ndarray
):
    assert compiled == [(1, 1)]  # before the first image: a file that does not load is no engine
    for batch in (1, 4, 2, 4, 1, 2, 1):
        output = engine.run(images[:batch])
        np.testing.assert_allclose(output.maps, brightness(images[:batch]), rtol=1e-6)
        np.testing.assert_allclose(output.scores, output.maps.max((1, 2)), rtol=1e-6)
    assert compiled == [(1, 1), (1, 4), (1, 2)]
    for batch in (5, 2, 1, 4):
        assert len(engine.run(images[:batch]).scores) == batch
    assert compiled[3:] == [(1, 5), (1, 4)]


def test_streams_share_what_is_compiled_and_take_a_smaller_last_batch(
    engine: OpenVinoEngine, compiled: List[Tuple[int, int]], images: np.ndarray
):
    batches = [images[:3]] * 8 + [images[:2]]
    maps = [output.maps for output in engine.run_many(iter(batches), 2)]
    for value, batch in zip(maps, batches):
        np.testing.assert_allclose(value, brightness(batch), rtol=1e-6)
    assert sorted(compiled) == [(1, 1), (2, 2), (2, 3)]


def test_results_are_the_callers_own(engine: OpenVinoEngine, images: np.ndarray):
    first = engine.run(images[:1])
    engine.run(images[1:2])
    np.testing.assert_allclose(first.maps, brightness(images[:1]), rtol=1e-6)


def test_closed_engine_says_so(engine: OpenVinoEngine, images: np.ndarray):
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="is closed"):
        engine.run(images[:1])
