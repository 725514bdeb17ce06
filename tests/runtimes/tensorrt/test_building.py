"""Complete builds with the real Polygraphy and a simulated TensorRT builder of each release."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Optional, Tuple

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from adq_edge.core.errors import BuildError
from adq_edge.core.options import Precision, Route
from adq_edge.runtimes.tensorrt import building
from adq_edge.runtimes.tensorrt.job import BuildReport, Job, OwnCalibrator
from factories.recording_builder import SimulatedBuilder

pytest.importorskip("polygraphy")

SIZE = 8
RANGES = {"conv1:0": 4.0, "relu:0": 4.0, "conv2:0": 2.5}
INT8, FP16, FP32 = Precision.INT8, Precision.FP16, Precision.FP32
IMPLICIT, EXPLICIT, TYPED = Route.IMPLICIT, Route.EXPLICIT, Route.TYPED


def write_model(path: Path, pairs: bool) -> Path:
    """Write two convolutions and a score; with `pairs` the second one reads a Q/DQ pair."""
    weights = {
        name: numpy_helper.from_array(np.ones((3, 3, 1, 1), np.float32), name) for name in ("w1", "w2")
    }
    scale = numpy_helper.from_array(np.float32(0.1), "scale")
    zero = numpy_helper.from_array(np.int8(0), "zero")
    nodes = [
        helper.make_node("Cast", ["image"], ["cast:0"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["cast:0"], ["transpose:0"], "transpose", perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["transpose:0", "w1"], ["conv1:0"], "conv1"),
        helper.make_node("Relu", ["conv1:0"], ["relu:0"], "relu"),
        helper.make_node("QuantizeLinear", ["relu:0", "scale", "zero"], ["q:0"], "q"),
        helper.make_node("DequantizeLinear", ["q:0", "scale", "zero"], ["dq:0"], "dq"),
        helper.make_node("Conv", ["dq:0" if pairs else "relu:0", "w2"], ["conv2:0"], "conv2"),
        helper.make_node("ReduceMean", ["conv2:0"], ["anomaly_score"], "mean", axes=[1, 2, 3], keepdims=0),
    ]
    graph = helper.make_graph(
        [node for node in nodes if pairs or node.name not in ("q", "dq")],
        "model",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", SIZE, SIZE, 3])],
        [helper.make_tensor_value_info("anomaly_score", TensorProto.FLOAT, ["n"])],
        [*weights.values(), *((scale, zero) if pairs else ())],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), str(path))
    return path


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], SimulatedBuilder]]:
    """Return a function that installs a release; Polygraphy is imported again for each."""

    def loaded() -> Dict[str, Any]:
        return {name: module for name, module in sys.modules.items() if name.split(".")[0] == "polygraphy"}

    def install(version: str) -> SimulatedBuilder:
        machine = SimulatedBuilder(version)
        for name, module in machine.modules().items():
            monkeypatch.setitem(sys.modules, name, module)
        return machine

    monkeypatch.delenv("POLYGRAPHY_USE_TENSORRT_RTX", raising=False)
    before = loaded()
    for name in before:
        del sys.modules[name]
    yield install
    for name in loaded():
        del sys.modules[name]
    sys.modules.update(before)


def make_job(folder: Path, precision: Precision = INT8, route: Route = IMPLICIT, **changes: Any) -> Job:
    model = write_model(folder / "m.onnx", pairs=precision is INT8 and route is not IMPLICIT)
    return Job(
        **{
            "runtime": "tensorrt",
            "model": str(model),
            "plan": str(folder / "e.plan"),
            "precision": precision,
            "route": route,
            "networks": ("conv1", "relu", "conv2"),
            "half": ("conv1",),
            "ranges": RANGES if route is IMPLICIT else {},
            "image_size": (SIZE, SIZE),
            "max_batch": 4,
            "compute_capabilities": (),
            "dla": None,
            "workspace_mb": 64,
            "lean": False,
            "timing_cache": None,
            **changes,
        }
    )


def formats(report: BuildReport) -> Dict[str, str]:
    assert report.layers is not None
    return {layer.name: layer.precision for layer in report.layers}


@pytest.mark.parametrize("version", ["8.5.2.2", "8.6.1", "10.3.0"])
@pytest.mark.parametrize(("dla", "has_cache"), [(None, False), (0, False), (0, True)])
def test_implicit_build(install, tmp_path, version: str, dla: Optional[int], has_cache: bool):
    """The cache, a last try for DLA, has the header of the release and the ranges of the tensors."""
    machine = install(version)
    machine.accepts_calibrator = machine.needs_calibrator = has_cache
    report = building.build(make_job(tmp_path, dla=dla, calibration_cache=has_cache))
    assert (report.release, report.compute_capability) == (version, "7.2")
    found = formats(report)
    assert {name: found[name] for name in ("conv1", "relu", "conv2", "mean")} == {
        "conv1": "FP16",  # in job.half
        "relu": "INT8",
        "conv2": "INT8",
        "mean": "FP32",  # not in the networks
    }
    config, network = machine.config, machine.network
    fallback = set() if dla is None else {"GPU_FALLBACK"}
    assert config._flags == {"FP16", "INT8", "OBEY_PRECISION_CONSTRAINTS", *fallback}  # without TF32
    assert ("int8_calibrator" in config._held) is has_cache
    given = {layer.name: layer._output._amax for layer in network if layer._output._amax is not None}
    assert given == {"conv1": 4.0, "relu": 4.0, "conv2": 2.5}
    assert config._features == (set() if version.startswith("8.5") else {"PROFILE_SHARING_0806"})
    assert config._pools["WORKSPACE"] == 64_000_000
    assert config.profiling_verbosity.name == "DETAILED"
    image = (SIZE, SIZE, 3)
    assert [tuple(shape) for shape in config._profiles[0].shapes["image"]] == [
        (count, *image) for count in (1, 1, 4)
    ]
    assert (tmp_path / "e.plan").read_bytes().startswith(b'{"Layers"')
    assert machine.contexts_current == 0


def test_calibrator_beside_a_uint8_input_fails(install, tmp_path):
    """As TensorRT on a GPU (NVIDIA/TensorRT #4131, #1326); then no cache may be passed."""
    install("8.5.2.2")
    with pytest.raises(Exception, match="Invalid Engine"):
        building.build(make_job(tmp_path, dla=0, calibration_cache=True))
    assert formats(building.build(make_job(tmp_path, dla=0)))["conv2"] == "INT8"


def test_rejected_cache_leaves_no_plan(install, tmp_path, monkeypatch):
    install("8.5.2.2").accepts_calibrator = True
    monkeypatch.setattr(building, "write_calibration_cache", lambda *_: b"TRT-8601-EntropyCalibration2\n")
    with pytest.raises(BuildError, match=r"8\.5\.2\.2 rejected the calibration cache and asked for data"):
        building.build(make_job(tmp_path, dla=0, calibration_cache=True))
    assert not (tmp_path / "e.plan").exists()


@pytest.mark.parametrize("version", ["8.5.2.2", "10.3.0"])
def test_transposed_convolution_needs_cudnn(install, tmp_path, version: str):
    """As TensorRT 8.5 on Volta (NVIDIA/TensorRT #2133); the builder then tries with cuDNN once."""
    install(version)
    job = make_job(tmp_path, FP16, lean=True)
    model = onnx.load(job.model)
    next(node for node in model.graph.node if node.name == "conv2").op_type = "ConvTranspose"
    onnx.save(model, job.model)
    with pytest.raises(Exception, match="Invalid Engine"):
        building.build(job)
    assert formats(building.build(dataclasses.replace(job, lean=False)))["conv2"] == "FP16"


@pytest.mark.parametrize(
    ("version", "route", "precision", "flags", "conv2"),
    [
        ("8.5.2.2", EXPLICIT, INT8, {"FP16", "INT8", "OBEY_PRECISION_CONSTRAINTS"}, "INT8"),
        ("8.5.2.2", IMPLICIT, FP16, {"FP16", "OBEY_PRECISION_CONSTRAINTS"}, "FP16"),
        ("8.5.2.2", IMPLICIT, FP32, set(), "FP32"),
        ("10.3.0", EXPLICIT, INT8, {"FP16", "INT8", "OBEY_PRECISION_CONSTRAINTS"}, "INT8"),
        ("10.3.0", TYPED, INT8, set(), "INT8"),
        ("11.1.0", TYPED, INT8, set(), "INT8"),
        ("11.1.0", TYPED, FP32, set(), "FP32"),
    ],
)
def test_flags_of_each_route(
    install, tmp_path, version: str, route: Route, precision: Precision, flags: set, conv2: str
):
    machine = install(version)
    report = building.build(make_job(tmp_path, precision, route))
    assert machine.config._flags == flags
    assert machine.network._is_strong is (route is TYPED)
    assert formats(report)["conv2"] == conv2
    assert formats(report)["mean"] == "FP32"
    assert "int8_calibrator" not in machine.config._held
    pinned = {layer.name for layer in machine.network if layer.pinned is not None}
    assert not pinned & {"q", "dq", "cast", "transpose"}


def test_progress_is_printed_since_release_10(install, tmp_path, capsys):
    install("10.3.0")
    building.build(make_job(tmp_path, route=TYPED))
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("adq-edge-progress")]
    assert printed == [f"adq-edge-progress {step} 2 Building Engine" for step in range(3)]


def test_dla_lean_build_and_timing_cache(install, tmp_path):
    machine = install("8.5.2.2")
    kept = tmp_path / "no" / "such folder" / "timings"  # as in the first build
    job = make_job(tmp_path, dla=1, lean=True, timing_cache=str(kept), max_batch=1)
    building.build(job)
    config = machine.config
    assert (config.DLA_core, config.default_device_type.name) == (1, "DLA")
    assert machine.loaded_on == [1]  # the layers are those of the engine on its own core
    assert "GPU_FALLBACK" in config._flags
    assert {"conv1", "conv2"}.isdisjoint(config._on_gpu)
    assert {"relu", "mean"} <= config._on_gpu  # no kernel on DLA, and pinned
    sources = machine.tensorrt.TacticSource
    assert config._tactics == 1 << sources.EDGE_MASK_CONVOLUTIONS | 1 << sources.JIT_CONVOLUTIONS
    assert kept.read_bytes() == b"timings"
    building.build(job)
    assert machine.config._timing_cache_read == b"timings"
    impossible = dataclasses.replace(job, timing_cache=str(kept / "inside a file" / "timings"))
    building.build(impossible)
    assert Path(job.plan).stat().st_size > 0


@pytest.mark.parametrize("kind", list(OwnCalibrator))
@pytest.mark.parametrize("version", ["8.5.2.2", "10.3.0"])
def test_own_calibrator_receives_all_images(install, tmp_path, version: str, kind: OwnCalibrator):
    machine = install(version)
    report = building.build(own_calibration(tmp_path, kind))
    images = np.load(str(tmp_path / "images.npy"))
    np.testing.assert_array_equal(np.concatenate(machine.fed), images.astype(np.float32))
    assert report.ranges == {"image": pytest.approx(float(images.max()), rel=1e-6)}
    assert not (tmp_path / "e.plan").exists()
    assert machine.contexts_current == 0


def test_failed_calibration_releases_its_context(install, tmp_path):
    """pycuda aborts a process that ends with a context, which would hide the cause of the failure."""
    machine = install("10.3.0")
    machine.fails = True
    with pytest.raises(Exception, match="Invalid Engine"):
        building.build(own_calibration(tmp_path, OwnCalibrator.ENTROPY))
    assert machine.contexts_current == 0


def own_calibration(folder: Path, kind: OwnCalibrator) -> Job:
    shape: Tuple[int, ...] = (3, SIZE, SIZE, 3)
    np.save(str(folder / "images.npy"), np.random.default_rng(0).integers(0, 200, shape, np.uint8))
    job = make_job(folder, own_calibrator=kind, images=str(folder / "images.npy"), ranges={}, max_batch=1)
    model = onnx.load(job.model)
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT  # a calibrator rejects uint8
    onnx.save(model, job.model)
    return job
