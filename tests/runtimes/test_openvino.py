"""The models that OpenVINO compiles, by number of streams and batch size."""

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
from adq_edge.core.options import Precision
from adq_edge.runtimes.openvino import OpenVinoEngine
from adq_edge.runtimes.registry import load_engine
from factories.tiny_engine import SIZE, make_model, write_engine, write_file


def test_import_sends_no_usage_data_and_starts_no_process(tmp_path: Path):
    code = (
        "import adq_edge.runtimes.openvino, multiprocessing, sys, threading, time\n"
        "time.sleep(0.2)  # a thread of the package would start the process\n"
        "assert not multiprocessing.active_children()\n"
        "assert [one.name for one in threading.enumerate()] == ['MainThread']\n"
    )
    environment = {**os.environ, "HOME": str(tmp_path)}
    environment.pop("CI", None)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "intel").exists()  # its identifier of this user


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> List[Tuple[int, int]]:
    """Return a list that receives the (streams, batch size) of each compilation."""
    done: List[Tuple[int, int]] = []
    original = OpenVinoEngine._compile

    def record(engine: OpenVinoEngine, streams: int, batch: int, *content: bytes) -> Any:
        done.append((streams, batch))
        return original(engine, streams, batch, *content)

    monkeypatch.setattr(OpenVinoEngine, "_compile", record)
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
from adq_edge.core.images.imaging import decode_image
from adq_edge.runtimes.registry import load_engine

engine = load_engine(Path(sys.argv[1]), runtime="openvino", threads=1)
encoded = cv2.imencode(".jpg", np.zeros((1024, 1024, 3), np.uint8))[1].tobytes()
decode_image(encoded)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    decode_image(encoded)
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / 20)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt works in glibc only")
def test_decoding_large_images_reuses_memory(tmp_path: Path):
    """Measured in a new process; an image of 3 MB has 768 pages, which would cause 768 page faults."""
    engine = write_engine(tmp_path / "tiny.onnx")
    command = [sys.executable, "-c", FAULTS, str(engine)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, timeout=60)
    assert float(done.stdout) < 100


def brightness(images: np.ndarray) -> np.ndarray:
    """Return the anomaly maps of the tiny engine."""
    return images.astype(np.float64).mean(3)


def test_batch_sizes_are_compiled_on_demand_and_the_last_three_are_kept(
    engine: OpenVinoEngine, compiled: List[Tuple[int, int]], images: np.ndarray
):
    assert compiled == [(1, 1)]  # when it is loaded, to find a damaged file
    for batch in (1, 4, 2, 4, 1, 2, 1):
        output = engine.run(images[:batch])
        np.testing.assert_allclose(output.maps, brightness(images[:batch]), rtol=1e-6)
        np.testing.assert_allclose(output.scores, output.maps.max((1, 2)), rtol=1e-6)
    assert compiled == [(1, 1), (1, 4), (1, 2)]
    for batch in (5, 2, 1, 4):
        assert len(engine.run(images[:batch]).scores) == batch
    assert compiled[3:] == [(1, 5), (1, 4)]


def test_streams_share_compiled_models_and_accept_a_smaller_last_batch(
    engine: OpenVinoEngine, compiled: List[Tuple[int, int]], images: np.ndarray
):
    batches = [images[:3]] * 8 + [images[:2]]
    maps = [output.maps for output in engine.run_many(iter(batches), 2)]
    for value, batch in zip(maps, batches):
        np.testing.assert_allclose(value, brightness(batch), rtol=1e-6)
    assert sorted(compiled) == [(1, 1), (2, 2), (2, 3)]


def test_next_run_does_not_change_earlier_results(engine: OpenVinoEngine, images: np.ndarray):
    first = engine.run(images[:1])
    engine.run(images[1:2])
    np.testing.assert_allclose(first.maps, brightness(images[:1]), rtol=1e-6)


def test_closed_engine_is_rejected(engine: OpenVinoEngine, images: np.ndarray):
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="is closed"):
        engine.run(images[:1])


FIRST_CALLS = """
import sys, threading
import numpy as np
from adq_edge.runtimes.registry import load_engine
sys.setswitchinterval(1e-6)
engine, start = load_engine(sys.argv[1], runtime="openvino", threads=1), threading.Barrier(8)
image = np.zeros((1, *engine.sidecar.image_size, 3), np.uint8)
def call():
    start.wait()
    engine.run(image)
threads = [threading.Thread(target=call) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
"""


def test_threads_whose_first_calls_meet_do_not_block_the_process(tmp_path: Path):
    """Without a first call at the import, about every third process was blocked for ever."""
    command = [sys.executable, "-c", FIRST_CALLS, str(write_engine(tmp_path / "tiny.onnx"))]
    assert subprocess.run(command, timeout=60).returncode == 0


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.INT8])
def test_networks_compute_in_float32_on_processors_with_a_smaller_format(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: Precision
):
    """On Arm, OpenVINO's default is float16, with which the maps of INT8 engines are wrong (tests/arm)."""
    import openvino

    hints: List[str] = []

    class Core(openvino.Core):
        def compile_model(self, model: Any, device: str, properties: Any) -> Any:
            hints.append(properties["INFERENCE_PRECISION_HINT"])
            return super().compile_model(model, device, properties)

    monkeypatch.setattr(openvino, "Core", Core)
    content = make_model().SerializeToString()
    with load_engine(
        write_file(tmp_path / "tiny.onnx", content, precision=precision), runtime="openvino"
    ) as engine:
        assert isinstance(engine, OpenVinoEngine)
        compiled = engine._opened().for_batch(1).compiled()
        assert compiled.get_property("INFERENCE_PRECISION_HINT") == openvino.Type.f32
    assert hints == ["f32"]
