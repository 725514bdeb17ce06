"""One engine object in many threads, with the real runtimes."""

from __future__ import annotations

import importlib.util
import itertools
import time
from pathlib import Path
from typing import Iterator, List

import numpy as np
import pytest

from adq_edge.artifacts.engine_file import EngineFile
from adq_edge.artifacts.sidecar import read_sidecar
from adq_edge.core.errors import EngineError
from adq_edge.core.runtimes import ONNXRUNTIME
from adq_edge.runtimes.base import Engine, Output
from adq_edge.runtimes.emulation import EmulatedEngine
from adq_edge.runtimes.registry import construct, load_engine
from factories.threads import run_in_threads
from factories.tiny_engine import SIZE, write_engine

THREADS = 8
NEEDS_OPENVINO = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="pip install adq-edge[openvino]"
)


@pytest.fixture(params=["onnxruntime", "emulation", pytest.param("openvino", marks=NEEDS_OPENVINO)])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    path = write_engine(tmp_path / "tiny.onnx")
    if request.param == "emulation":
        file = EngineFile(path, None)
        yield construct(EmulatedEngine, ONNXRUNTIME, file, read_sidecar(path), 2)
    else:
        yield load_engine(path, runtime=request.param, threads=2)


def batch_of(number: int) -> np.ndarray:
    """Return the images of a thread: 1 to 3, different for each thread."""
    shape = (1 + number % 3, SIZE, SIZE, 3)
    return np.random.default_rng(number).integers(0, 256, shape, np.uint8)


def assert_same(output: Output, expected: Output) -> None:
    np.testing.assert_array_equal(output.maps, expected.maps)
    np.testing.assert_array_equal(output.scores, expected.scores)


def test_threads_get_the_results_of_their_own_images(engine: Engine):
    """Every fourth thread has two streams. Results are compared after all threads have ended."""
    alone = [engine.run(batch_of(number)) for number in range(THREADS)]

    def score(number: int) -> List[Output]:
        batch = batch_of(number)
        if number % 4 == 0:
            return list(engine.run_many([batch] * 25, 2))
        return [engine.run(batch) for _ in range(25)]

    for expected, outputs in zip(alone, run_in_threads(THREADS, score)):
        for output in outputs:
            assert_same(output, expected)


def test_close_lets_running_calls_end_and_rejects_later_ones(engine: Engine):
    alone = [engine.run(batch_of(number)) for number in range(THREADS)]

    def score(number: int) -> str:
        if number == 0:
            time.sleep(0.05)
            engine.close()
        try:
            while True:
                assert_same(engine.run(batch_of(number)), alone[number])
        except EngineError as error:
            return str(error)

    messages = run_in_threads(THREADS, score)
    assert [message for message in messages if "is closed" not in message] == []
    with pytest.raises(EngineError, match="is closed"):
        next(engine.run_many(itertools.repeat(batch_of(0)), 2))
