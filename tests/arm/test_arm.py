"""The device half on emulated Arm, with real aarch64 wheels: `make test-arm`.

The model is exported on this machine, since torch does not run on the boards. Images have 64x64 pixels and
engines are INT8: QEMU computes float convolutions forty times as slowly.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from adq_edge.core.images.imaging import read_image
from adq_edge.metrics.snr import snr_db
from factories.images import make_model, write_dataset
from factories.shared import shared_folder
from tools.arm.emulation import CPUS, EmulatedSystem, why_no_emulation
from tools.arm.setup import is_complete
from tools.arm.systems import SYSTEMS, System

pytestmark = pytest.mark.arm

NO_DOT_PRODUCT, DOT_PRODUCT = CPUS
LONGEST_RUN = 600  # seconds

FEW_CHANNELS = (64, 64, 64)
"""Channels of the layers: all layers of a ResNet-18, a sixth of its weights."""

SCORE = """
import sys
import numpy as np
from adq_edge.runtimes.registry import load_engine
with load_engine(sys.argv[1], runtime=sys.argv[2], threads=1) as engine:
    output = engine.run(np.load("images.npy"))
    np.savez(sys.argv[3], maps=output.maps, scores=output.scores)
"""
"""Scores images.npy with the engine argv[1] in the runtime argv[2], and writes argv[3]."""

FAST_TESTS = (
    *(
        "core/test_text.py",
        "core/test_records.py",
        "decision/test_recognition.py",
        "hardware/test_environment.py",
    ),
    *("metrics/test_snr.py", "runtimes/test_engine_file.py", "runtimes/test_threads.py"),
)


class Board:
    """An emulated system, and the folder of the files that its programs read and write."""

    def __init__(self, system: System, folder: Path) -> None:
        self.system, self.folder = system, folder

    def python(self, *arguments: str, cpu: str = NO_DOT_PRODUCT, **variables: str) -> str:
        """Run Python with environment variables; return its standard output."""
        return self.run(*arguments, cpu=cpu, **variables).stdout

    def run(
        self, *arguments: str, cpu: str = NO_DOT_PRODUCT, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run Python with environment variables to its end."""
        command = EmulatedSystem(self.system, cpu, self.folder).command(["python3", *arguments], variables)
        done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST_RUN, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    def adq_edge(self, *arguments: str, cpu: str = NO_DOT_PRODUCT) -> Any:
        """Run a verb; return the document that it prints with --json."""
        return json.loads(self.python("-m", "adq_edge", *arguments, "--json", cpu=cpu))

    def maps(self, engine: str, runtime: str, cpu: str) -> np.ndarray:
        """Return an engine's maps of images.npy, float32 `[N, h, w]`."""
        output = f"{engine}-{runtime}-{cpu}.npz"
        self.python("-c", SCORE, engine, runtime, output, cpu=cpu)
        with np.load(str(self.folder / output)) as arrays:
            return np.asarray(arrays["maps"])


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the dataset `parts`, the bundle `bundle` and images.npy."""
    problem = why_no_emulation()
    if problem is not None or not is_complete():
        pytest.skip(problem or "the emulated Arm systems are not set up: make test-arm")

    def make(folder: Path) -> None:
        from adq_edge.models.checkpoint import save_checkpoint
        from adq_edge.onnx_export.export import export

        write_dataset(folder / "parts")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("adq_edge.models.resnet.PLANES", FEW_CHANNELS)
            save_checkpoint(folder / "parts.pt", make_model(), {"settings": {}})
            export(folder / "parts.pt", folder / "bundle")
        paths = sorted((folder / "parts").glob("*/test/*/*.png"))[::3]
        np.save(str(folder / "images.npy"), np.stack([read_image(path) for path in paths]))

    return shared_folder("arm", make, tmp_path_factory)


@pytest.fixture(scope="module", params=SYSTEMS, ids=lambda system: system.name)
def board(request, exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Board:
    """Return a system with the INT8 engine engine.onnx, which was built on it."""
    folder = tmp_path_factory.mktemp(request.param.name)
    for name in ("parts", "bundle"):
        shutil.copytree(str(exported / name), str(folder / name))
    shutil.copy(str(exported / "images.npy"), str(folder))
    board = Board(request.param, folder)
    options = ("--int8", "--calib-data", "parts", "--samples", "2", "--output", "engine.onnx")
    board.adq_edge("build", "bundle", *options)
    return board


@pytest.mark.parametrize("cpu", CPUS)
def test_doctor_finds_the_processor_and_the_libraries(board: Board, cpu: str):
    diagnosis = board.adq_edge("doctor", cpu=cpu)
    environment = diagnosis["inventory"]["environment"]
    assert (environment["architecture"], environment["cpu"].lower()) == ("aarch64", f"arm {cpu}")
    for name in ("numpy", "onnx", "onnxruntime"):
        assert f"{name}=={environment['packages'][name]}" in board.system.pinned_wheels()
    possible = {one["name"]: one["possible"] for one in diagnosis["capabilities"]}
    assert possible["CPU engines, ONNX Runtime"]
    present = {one["name"]: one["present"] for one in diagnosis["int8"]}
    assert present["dotprod"] == (cpu == DOT_PRODUCT)


def test_engine_computes_28_convolutions_in_integers(board: Board):
    # `read_sidecar` refuses an engine of another kind of machine.
    sidecar = json.loads((board.folder / "engine.onnx.json").read_text(encoding="utf-8"))
    operators = sidecar["operators"]
    assert sidecar["machine"] == "aarch64"
    assert (operators["QLinearConv"], operators["QLinearAdd"]) == (28, 10)
    # of the image, one per network; fused with its ReLU
    assert operators.get("Conv", 0) + operators.get("FusedConv", 0) == 2


@pytest.mark.parametrize("cpu", CPUS)
def test_maps_differ_from_x86_no_more_than_two_ways_of_x86(board: Board, cpu: str):
    """The same file: sums near a tie are rounded to another integer, as without integer kernels on x86."""
    kernels = maps_on_x86(board, onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL)
    floats = maps_on_x86(board, onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL)
    found = snr_db(kernels, board.maps("engine.onnx", "onnxruntime", cpu))
    print(f"{board.system.name}, {cpu}: map SNR against x86 {found:.1f} dB")
    assert found > snr_db(kernels, floats) - 3


def maps_on_x86(board: Board, level: onnxruntime.GraphOptimizationLevel) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    path = str(board.folder / "engine.onnx")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (maps,) = session.run(["anomaly_map"], {"image": np.load(str(board.folder / "images.npy"))})
    return np.asarray(maps)


def test_verbs_run_one_after_the_other(board: Board):
    evaluation = board.adq_edge("eval", "engine.onnx", "--data", "parts")
    assert evaluation["environment"]["architecture"] == "aarch64"
    assert len(evaluation["scores"]) == 12
    assert board.adq_edge("fit", "engine.onnx", "--data", "parts")["fitted"] == ["part0", "part1"]
    options = ("--product", "part0", "--output", "maps", "--quiet")  # the products look alike
    lines = board.python("-m", "adq_edge", "predict", "engine.onnx", "parts/part0/test", *options)
    predictions = [json.loads(line) for line in lines.splitlines()]
    assert [prediction["product"] for prediction in predictions] == ["part0"] * 6
    assert len([path for path in (board.folder / "maps").rglob("*") if path.is_file()]) == 6
    benchmark = board.adq_edge("bench", "engine.onnx", "--quick", "--scenario", "single-stream")
    assert [one["name"] for one in benchmark["engines"]] == ["engine"]


def test_openvino_with_most_layers_in_float_keeps_the_maps(board: Board):
    if not any(wheel.startswith("openvino==") for wheel in board.system.pinned_wheels()):
        pytest.skip("no OpenVINO for this system")
    options = ("--int8", "--runtime", "openvino", "--calib-data", "parts", "--samples", "2")
    built = board.run("-m", "adq_edge", "build", "bundle", *options, "--output", "openvino.onnx")
    assert "layers of this INT8 engine in integers here" in " ".join(built.stderr.split())
    expected = board.maps("engine.onnx", "onnxruntime", DOT_PRODUCT)
    assert snr_db(expected, board.maps("openvino.onnx", "openvino", DOT_PRODUCT)) > 20


def test_fast_tests_of_the_device_half_pass(board: Board):
    paths = [f"/repository/tests/{path}" for path in FAST_TESTS]
    options = ["-q", "-p", "factories.without_torch", "-p", "no:cacheprovider", "--rootdir", "/repository"]
    modules = "/opt/wheels:/repository:/repository/tests"
    # With CI, hypothesis has no time limit for an example.
    board.python("-m", "pytest", *options, "-m", "not slow", *paths, PYTHONPATH=modules, CI="1")
