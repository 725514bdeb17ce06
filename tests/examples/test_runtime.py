"""The runtime of an installed package: build, predict, bench and doctor use it by its name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Dict

import numpy as np
import onnx
import pytest

from adq_edge.artifacts.sidecar import read_sidecar, sidecar_path
from adq_edge.core.errors import EngineError
from factories.examples import python


@pytest.fixture(scope="module")
def engine(installed: Dict[str, str], tiny_bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("engines") / "tiny.onnx"
    arguments = ["build", tiny_bundle.path, "-o", path, "--runtime", "onnx-reference", "--samples", 4]
    done = python(["-m", "adq_edge", *arguments], installed)
    assert done.returncode == 0, done.stderr
    return path


def test_build_names_the_runtime_in_the_sidecar(engine: Path):
    sidecar = json.loads(sidecar_path(engine).read_text())
    assert (sidecar["runtime"], sidecar["runtime_version"]) == ("onnx-reference", onnx.__version__)
    assert sidecar["operators"]["QuantizeLinear"] > 0


def test_int8_maps_agree_with_those_of_onnxruntime(
    installed: Dict[str, str], engine: Path, dataset: Path, tmp_path: Path
):
    image = sorted(dataset.rglob("test/*/*.png"))[0]
    code = (
        "import sys, adq_edge, numpy as np\n"
        "for runtime in ('onnx-reference', 'onnxruntime'):\n"
        "    with adq_edge.load_engine(sys.argv[1], runtime=runtime) as engine:\n"
        "        prediction, = adq_edge.predict(engine, sys.argv[2], output=None)\n"
        "        np.save(runtime, prediction.anomaly_map)"
    )
    done = python(["-c", code, engine, image], installed, cwd=str(tmp_path))
    assert done.returncode == 0, done.stderr
    ours, theirs = (np.load(tmp_path / f"{name}.npy") for name in ("onnx-reference", "onnxruntime"))
    noise = np.square(ours - theirs).sum() / np.square(theirs).sum()
    assert noise < 1e-3  # an activation on the border of two INT8 values may be rounded either way


def test_bench_and_doctor_know_the_runtime(installed: Dict[str, str], engine: Path, tmp_path: Path):
    arguments = ["bench", engine, "--quick", "--runtime", "onnx-reference", "--json"]
    done = python(["-m", "adq_edge", *arguments], installed, cwd=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert '"runtime": "onnx-reference"' in done.stdout
    done = python(["-m", "adq_edge", "doctor"], installed)
    assert "CPU engines, ONNX reference" in done.stdout


def test_engine_is_rejected_without_its_package(engine: Path):
    with pytest.raises(EngineError, match="its runtime 'onnx-reference' is not one of: onnxruntime, "):
        read_sidecar(engine)
