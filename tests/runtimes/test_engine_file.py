"""An engine file that changes while its engine is in use."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import List

import numpy as np
import pytest

from adq_edge.artifacts.engine_file import LARGEST, EngineFile
from adq_edge.artifacts.sidecar import read_sidecar
from adq_edge.core.errors import AdqError, EngineError
from adq_edge.core.files import sha256
from adq_edge.runtimes.base import Engine
from adq_edge.runtimes.registry import load_engine
from factories.tiny_engine import SIZE, make_model, write_engine, write_file

RUNTIMES = ["onnxruntime"] + (["openvino"] if importlib.util.find_spec("openvino") else [])
IMAGES = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), np.uint8)


def other_model() -> bytes:
    """Return a model of the same inputs and outputs that adds 1 to each score."""
    model = make_model()
    model.graph.initializer[0].raw_data = np.ones((256, 1), np.float32).tobytes()
    return model.SerializeToString()


def scores(engine: Engine) -> List[float]:
    """Return scores that need further loads of the file: another batch size, and two streams."""
    found = [engine.run(IMAGES), *engine.run_many([IMAGES[:2]] * 2, 2)]
    return [float(score) for output in found for score in output.scores]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_replaced_or_deleted_file_changes_no_loaded_engine(tmp_path: Path, runtime: str):
    path = write_engine(tmp_path / "tiny.onnx")
    with load_engine(path, runtime=runtime, threads=2) as engine:
        expected = scores(engine)
    replaced, deleted = (load_engine(path, runtime=runtime, threads=2) for _ in range(2))
    write_file(tmp_path / "new.onnx", other_model())
    (tmp_path / "new.onnx").replace(path)
    assert scores(replaced) == expected
    path.unlink()
    assert scores(deleted) == expected


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_file_that_was_overwritten_after_loading_is_rejected(tmp_path: Path, runtime: str):
    path = write_engine(tmp_path / "tiny.onnx")
    with load_engine(path, runtime=runtime, threads=2, trust=True) as engine:
        path.write_bytes(other_model())
        with pytest.raises(EngineError, match=r"not the file that tiny\.onnx\.json describes"):
            scores(engine)


def test_trusted_engine_has_the_hash_of_the_loaded_bytes(tmp_path: Path):
    path = write_engine(tmp_path / "tiny.onnx")
    path.write_bytes(other_model())
    with pytest.raises(EngineError, match="truncated or changed"):
        load_engine(path)
    with load_engine(path, trust=True) as engine:
        assert engine.sidecar.engine_sha256 == sha256(path)


def test_fifo_and_too_large_file_are_rejected_at_once(tmp_path: Path):
    path = write_engine(tmp_path / "tiny.onnx")
    with path.open("r+b") as file:
        file.truncate(LARGEST)  # a sparse file: no block of it is written
    for read in (load_engine, read_sidecar):
        with pytest.raises(EngineError, match=r"no engine is larger than 2\.1 GB"):
            read(path)
    path.unlink()
    os.mkfifo(str(path))
    with pytest.raises(EngineError, match="a device, pipe or socket, not an engine"):
        load_engine(path)
    with pytest.raises(AdqError, match="illegal seek"):
        EngineFile(path, "0" * 64).read()
