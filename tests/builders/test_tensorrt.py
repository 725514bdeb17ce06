"""`build` for the TensorRT family: engines of TensorRT-RTX, graphs, settings, failures."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, List, Optional

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

import adq_edge.builders.tensorrt_options as choosing
from adq_edge.artifacts.sidecar import read_sidecar
from adq_edge.builders.base import BuildInputs
from adq_edge.builders.build import build
from adq_edge.builders.tensorrt import MOST_STRIPPED, TensorRTEngineBuilder
from adq_edge.builders.tensorrt_graphs import make_graph
from adq_edge.builders.tensorrt_options import TensorRTSettings, choose_settings
from adq_edge.calibration.calibrated_model import calibrate_model
from adq_edge.calibration.sources import image_source
from adq_edge.core.errors import AdqError, BuildError, EngineError, MissingDependencyError, StorageError
from adq_edge.core.options import (
    CALIBRATED_PRECISIONS,
    COMMON_PRECISIONS,
    Device,
    Precision,
    Route,
    Sparsity,
    Target,
    TensorRTOptions,
)
from adq_edge.core.runtimes import TENSORRT, TENSORRT_RTX
from adq_edge.hardware.board_state import BoardState
from adq_edge.hardware.jetson import Jetson
from adq_edge.hardware.power import PowerMode
from adq_edge.models.checkpoint import save_checkpoint
from adq_edge.models.config import ModelConfig
from adq_edge.models.registry import METHODS
from adq_edge.onnx_export.export import export
from adq_edge.quantization.arithmetic import WEIGHT_LEVELS
from adq_edge.quantization.float_model import FloatModel
from adq_edge.quantization.graph.tensorrt_lint import lint
from adq_edge.quantization.placement import integer_layers
from adq_edge.runtimes.registry import load_engine
from adq_edge.runtimes.tensorrt import process
from adq_edge.runtimes.tensorrt.job import BuildReport, Job, LayerReport
from adq_edge.runtimes.tensorrt.log import Failure, FailureKind
from adq_edge.runtimes.tensorrt.probe import Probe
from adq_edge.runtimes.tensorrt.process import Built, FailedBuildError
from factories import worker_functions
from factories.command_line import run_cli
from factories.images import SIZE, leftovers
from factories.tiny_method import TinyMethod

SM86 = TensorRTOptions(compute_capabilities=("86",))


def needs_rtx() -> None:
    pytest.importorskip("tensorrt_rtx", reason="pip install adq-edge[rtx]", exc_type=ImportError)


# --- real engines ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("precision", "capability"),
    [
        *((precision, capability) for precision in COMMON_PRECISIONS for capability in ("86", "8.9")),
        (Precision.FP8, "8.9"),
    ],
)
def test_rtx_engines_are_built_without_a_gpu(
    bundle, dataset, tmp_path, precision: Precision, capability: str
):
    needs_rtx()
    options = TensorRTOptions(compute_capabilities=(capability,), max_batch=4)
    built = build(
        bundle.path,
        tmp_path / "e.plan",
        precision=precision,
        calib_data=dataset,
        device="rtx",
        tensorrt=options,
    )
    sidecar = read_sidecar(built.path)
    assert sidecar == built.sidecar
    assert (sidecar.runtime, sidecar.device, sidecar.precision) == ("tensorrt-rtx", "rtx", precision)
    details = sidecar.tensorrt
    assert details is not None
    assert (details.route, details.max_batch) == ("typed", 4)
    assert details.layers is not None
    assert sidecar.operators["correlation"] >= 10
    assert sum(kernel.count for kernel in details.kernels) == sum(sidecar.operators.values())
    layers = {kernel.reads for kernel in details.kernels if kernel.kind == "correlation"}
    assert {"INT8", "FP8"} & layers == {precision.value.upper()} & {"INT8", "FP8"}
    has_warning = any("separate kernels" in text for text in details.warnings)
    assert has_warning is (precision in CALIBRATED_PRECISIONS)
    assert details.compute_capability == {"86": "8.6", "8.9": "8.9"}[capability]
    assert details.peak_mb is not None
    assert details.peak_mb > 10
    assert built.path.read_bytes()[:4] != b"\x08\x08\x12"  # not an ONNX file
    assert leftovers(tmp_path) == []


def test_gpu_without_integer_kernels_causes_a_warning(bundle, dataset, tmp_path):
    """For compute capability 7.5, TensorRT-RTX compiles the pairs as float16 arithmetic."""
    needs_rtx()
    options = TensorRTOptions(compute_capabilities=("75",))
    built = build(bundle.path, tmp_path / "e.plan", calib_data=dataset, device=Device.RTX, tensorrt=options)
    details = built.sidecar.tensorrt
    assert details is not None
    assert details.layers is not None
    assert details.layers.get("INT8", 0) == 0
    assert any("none of 28 layers runs in INT8" in warning for warning in details.warnings)


def test_int8_engines_are_smaller_than_float_ones(bundle, dataset, tmp_path):
    needs_rtx()
    sizes = {
        precision: build(
            bundle.path,
            tmp_path / f"{precision.value}.plan",
            precision=precision,
            calib_data=dataset,
            device=Device.RTX,
            tensorrt=SM86,
        )
        .path.stat()
        .st_size
        for precision in COMMON_PRECISIONS
    }
    assert sizes[Precision.INT8] < sizes[Precision.FP16] < sizes[Precision.FP32]


def test_rtx_engine_needs_its_runtime_and_a_gpu(bundle, tmp_path):
    needs_rtx()
    built = build(bundle.path, tmp_path / "e.plan", precision="fp16", device="rtx", tensorrt=SM86)
    with pytest.raises(EngineError, match="built for tensorrt-rtx, onnxruntime cannot load it"):
        load_engine(built.path, runtime="onnxruntime")
    if not Path("/proc/driver/nvidia").exists():
        with pytest.raises((EngineError, MissingDependencyError), match=r"CUDA|GPU|pycuda") as refusal:
            load_engine(built.path)
        assert "\n" not in str(refusal.value)


# --- the graph of each route -------------------------------------------------------------------


@pytest.fixture(scope="module")
def inputs(bundle, dataset) -> BuildInputs:
    model = FloatModel.load(bundle)
    calibrated = calibrate_model(bundle, model, "lp", image_source(dataset, 8), threads=2)
    return BuildInputs(bundle, Precision.INT8, model, calibrated)


def run_map(model: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(["anomaly_map"], {"image": images})[0]


def test_implicit_graph_preserves_the_rounded_integers(inputs):
    """TensorRT 8.5 scales each channel by its largest weight, which must give the same levels."""
    graph = make_graph(inputs, Route.IMPLICIT)
    assert lint(graph.model) == []
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.model.graph.initializer}
    for node in graph.model.graph.node:
        if node.name in inputs.calibrated.rounded_weights:
            rounded = inputs.calibrated.rounded_weights[node.name]
            rows = weights[node.input[1]].astype(np.float64).reshape(len(rounded.levels), -1)
            scales = np.abs(rows).max(axis=1, keepdims=True) / WEIGHT_LEVELS
            found = np.rint(rows / np.where(scales == 0, 1, scales)).reshape(rounded.levels.shape)
            changed = found != rounded.levels
            assert changed.reshape(len(found), -1).sum(axis=1).max() <= 1  # the weight that defines the scale
            assert np.abs(found - rounded.levels)[changed].max(initial=0) <= 8


def test_implicit_graph_lists_float_nodes(inputs):
    graph = make_graph(inputs, Route.IMPLICIT)
    region = inputs.calibrated.float_model.region
    integers = {layer.node.name for layer in integer_layers(region, Target.TENSORRT)}
    assert set(graph.half) == {operator.node.name for operator in region.operators} - integers
    assert graph.half  # the image's convolutions
    assert set(graph.half) < set(graph.networks)
    scoring = {
        node.name for node in graph.model.graph.node if "Reduce" in node.op_type or node.op_type == "Div"
    }
    assert scoring
    assert not scoring & set(graph.networks)
    assert all(amax > 0 for amax in graph.ranges.values())


def test_float_layers_have_no_pairs_in_the_explicit_graph(inputs):
    layer = integer_layers(inputs.calibrated.float_model.region, Target.TENSORRT)[3].node.name

    def reads_pairs(float_layers: tuple) -> bool:
        graph = make_graph(dataclasses.replace(inputs, float_layers=float_layers), Route.EXPLICIT)
        assert lint(graph.model) == []
        made = {name: node for node in graph.model.graph.node for name in node.output}
        node = next(node for node in graph.model.graph.node if node.name == layer)
        return made[node.input[0]].op_type == "DequantizeLinear"

    assert reads_pairs(())
    assert not reads_pairs((layer,))


def test_transposed_convolutions_have_pairs_only_in_typed_graph(dataset, tmp_path, monkeypatch):
    monkeypatch.setitem(METHODS, TinyMethod.arch, TinyMethod)
    save_checkpoint(tmp_path / "tiny.pt", TinyMethod(ModelConfig(image_size=(32, 32))), {})
    bundle = export(tmp_path / "tiny.pt", tmp_path / "tiny", data=dataset)
    model = FloatModel.load(bundle)
    calibrated = calibrate_model(bundle, model, "minmax", image_source(dataset, 2), threads=1)
    tiny = BuildInputs(bundle, Precision.INT8, model, calibrated)

    def read_by(kind: str, route: Route) -> set:
        graph = make_graph(tiny, route).model.graph
        made = {name: node.op_type for node in graph.node for name in node.output}
        return {made.get(name) for node in graph.node if node.op_type == kind for name in node.input[:2]}

    assert "DequantizeLinear" not in read_by("ConvTranspose", Route.EXPLICIT)
    assert "DequantizeLinear" in read_by("Conv", Route.EXPLICIT)
    assert read_by("ConvTranspose", Route.TYPED) == {"DequantizeLinear"}


def test_fp16_changes_the_graph_only_for_strongly_typed_networks(inputs):
    floating = dataclasses.replace(inputs, precision=Precision.FP16, calibrated=None)
    assert make_graph(floating, Route.EXPLICIT).model == inputs.model.proto
    typed = make_graph(floating, Route.TYPED).model
    assert any(t.data_type == onnx.TensorProto.FLOAT16 for t in typed.graph.initializer)


def test_tensorrt_candidates_are_emulated(inputs, bundle, dataset):
    builder = TensorRTEngineBuilder(SETTINGS, threads=2)
    image = next(iter(image_source(dataset, 1).images((SIZE, SIZE))))[None]
    with builder.open_candidate(inputs) as engine:
        assert engine.is_emulation
        emulated = engine.run(image).maps
    explicit = make_graph(inputs, Route.EXPLICIT).model
    np.testing.assert_allclose(emulated, run_map(explicit, image), rtol=1e-5, atol=1e-7)


def test_max_drop_for_tensorrt_uses_the_emulation(bundle, dataset, tmp_path):
    needs_rtx()
    built = build(
        bundle.path,
        tmp_path / "e.plan",
        calib_data=dataset,
        data=dataset,
        max_drop=1.0,
        device="rtx",
        tensorrt=SM86,
    )
    assert built.plan is not None
    assert built.plan.target is Target.TENSORRT
    assert built.plan.search is not None
    assert all(step.latency_ratio is None for step in built.plan.search.steps)


# --- settings ----------------------------------------------------------------------------


SETTINGS = TensorRTSettings(
    Device.CUDA,
    TENSORRT,
    "10.3.0",
    Route.EXPLICIT,
    TensorRTOptions(),
    workspace_mb=512,
    most_workspace_mb=1024,
    lean=False,
)


XAVIER = Probe("8.5.2.2", "Xavier", "7.2", 8000.0, 2)


def choose_on(
    monkeypatch: pytest.MonkeyPatch,
    here: Probe,
    device: Device = Device.CUDA,
    precision: Precision = Precision.INT8,
    calib: str = "lp",
    sparsity: Optional[Sparsity] = None,
    **options: Any,
) -> TensorRTSettings:
    monkeypatch.setattr(choosing, "load_release", lambda: None)
    monkeypatch.setattr(choosing, "probe", lambda: here)
    monkeypatch.setattr(choosing, "read_jetson", lambda: XAVIER)
    return choose_settings(device, precision, calib, TensorRTOptions(**options), sparsity)


@pytest.mark.parametrize(
    ("version", "options", "route"),
    [
        ("8.5.2.2", {}, Route.IMPLICIT),
        ("8.5.2.2", {"route": Route.EXPLICIT}, Route.EXPLICIT),
        ("8.6.1", {}, Route.EXPLICIT),
        ("10.3.0", {}, Route.EXPLICIT),
        ("10.3.0", {"route": Route.TYPED}, Route.TYPED),
        ("10.3.0", {"calib": "trt-entropy"}, Route.IMPLICIT),
        ("11.1.0", {}, Route.TYPED),
        ("10.13.0", {"precision": Precision.FP8}, Route.TYPED),
    ],
)
def test_route_depends_on_the_release(monkeypatch, version: str, options: Dict[str, Any], route: Route):
    here = dataclasses.replace(XAVIER, version=version, compute_capability="11.0")
    assert choose_on(monkeypatch, here, **options).route is route


def test_dla_of_tensorrt_11_4_is_strongly_typed(monkeypatch):
    """NVIDIA, TensorRT 11.4.1, "Strongly Typed Networks for DLA": an AGX Orin with JetPack 7.2.2."""
    orin = dataclasses.replace(XAVIER, version="11.4.1.106", compute_capability="8.7")
    assert choose_on(monkeypatch, orin, Device.JETSON, dla=1).route is Route.TYPED
    assert choose_on(monkeypatch, orin, Device.JETSON, Precision.FP16, dla=0).route is Route.TYPED
    older = dataclasses.replace(orin, version="10.16.2")
    assert choose_on(monkeypatch, older, Device.JETSON, dla=1).route is Route.IMPLICIT


def test_small_jetson_builds_lean_with_limited_workspace(monkeypatch):
    chosen = choose_on(monkeypatch, XAVIER, Device.JETSON, dla=1)
    assert (chosen.lean, chosen.options.dla, chosen.route) == (True, 1, Route.IMPLICIT)
    assert 64 <= chosen.workspace_mb <= 1024
    assert chosen.timing_cache is not None
    assert chosen.timing_cache.name == "timing-8.5.2.2-sm72.cache"


@pytest.mark.parametrize(
    ("here", "device", "options", "words"),
    [
        ({"compute_capability": "6.1"}, Device.CUDA, {}, "no INT8 tensor cores. Build with --fp16"),
        ({"compute_capability": "7.0"}, Device.CUDA, {}, "no INT8 tensor cores"),
        ({}, Device.CUDA, {"dla": 0}, "--device cuda has no DLA"),
        ({"dla_cores": 0}, Device.JETSON, {"dla": 0}, "has 0 DLA cores"),
        ({}, Device.JETSON, {"dla": 2}, "there is no core 2"),
        ({}, Device.JETSON, {"dla": 0, "route": Route.EXPLICIT}, "DLA reads no Q/DQ pairs"),
        ({}, Device.JETSON, {"dla": 0, "max_batch": 4}, "DLA supports batch size 1"),
        ({}, Device.JETSON, {"dla": 0, "precision": Precision.FP32}, "DLA computes in FP16 and INT8 only"),
        ({}, Device.CUDA, {"compute_capabilities": ("86",)}, "--sm is for --device rtx only"),
        ({}, Device.CUDA, {"route": Route.TYPED}, "TensorRT 8.5.2.2 has no strongly typed networks"),
        ({"version": "11.0.0"}, Device.CUDA, {"route": Route.IMPLICIT}, "neither implicit quantization"),
        (
            {"version": "11.0.0"},
            Device.JETSON,
            {"dla": 0},
            "TensorRT 11.0.0 has no DLA. Omit --dla, or install",
        ),
        ({"version": "11.4.1"}, Device.JETSON, {"dla": 0, "route": Route.IMPLICIT}, "neither implicit"),
        ({"version": "11.4.1", "dla_cores": 0}, Device.JETSON, {"dla": 0}, "has 0 DLA cores"),
        ({"version": "10.3.0"}, Device.JETSON, {"dla": 0, "route": Route.TYPED}, "DLA reads no Q/DQ pairs"),
        ({"version": "11.0.0"}, Device.CUDA, {"calib": "trt-minmax"}, "neither implicit quantization"),
        (
            {},
            Device.JETSON,
            {"precision": Precision.FP8},
            "Xavier (compute capability 7.2) has no tensor cores for FP8",
        ),
        ({"compute_capability": "8.7"}, Device.JETSON, {"precision": Precision.FP8}, "they begin with 8.9"),
        (
            {"compute_capability": "8.9"},
            Device.CUDA,
            {"precision": Precision.FP8},
            "TensorRT 8.5.2.2 has no strongly",
        ),
        ({}, Device.JETSON, {"dla": 0, "precision": Precision.FP8}, "DLA computes in FP16 and INT8 only"),
        ({}, Device.CUDA, {"precision": Precision.FP8, "route": Route.EXPLICIT}, "not --route explicit"),
        ({}, Device.JETSON, {"sparsity": Sparsity.TWO_OF_FOUR}, "has no tensor cores for sparse weights"),
    ],
)
def test_choose_settings_rejects_unsuitable_options(monkeypatch, here, device, options, words: str):
    with pytest.raises(BuildError) as refusal:
        choose_on(monkeypatch, dataclasses.replace(XAVIER, **here), device, **options)
    assert words in str(refusal.value)


@pytest.mark.parametrize("family", ["Jetson Orin Nano", "Jetson Thor"])
def test_board_without_dla_is_named_before_tensorrt_is_queried(monkeypatch, family: str):
    board = Jetson(family, family, None, None, None, None, None, 0)
    monkeypatch.setattr(choosing, "read_jetson", lambda: board)
    monkeypatch.setattr(choosing, "probe", lambda: pytest.fail("queries the GPU"))
    with pytest.raises(BuildError) as refusal:
        choose_settings(Device.JETSON, Precision.FP16, "lp", TensorRTOptions(dla=0))
    assert str(refusal.value) == f"a {family} has no DLA. Omit --dla."


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--device", "rtx", "--sm", "90"], "does not compile for --sm 90. Use one of: 75, 80, 86"),
        (["--device", "rtx", "--sm", "x"], "does not compile for --sm x"),
        (["--device", "rtx", "--sm", "86", "--route", "implicit"], "has no implicit quantization"),
        (["--device", "rtx", "--sm", "86", "--dla", "0"], "--device rtx has no DLA"),
        (["--device", "rtx", "--sm", "86", "--calib", "trt-entropy"], "has no calibrator 'trt-entropy'"),
        (["--device", "rtx", "--sm", "86", "--runtime", "openvino"], "--runtime is for CPU engines"),
        (["--device", "cpu", "--dla", "0"], "TensorRT options do not apply to a CPU engine"),
        (["--device", "cpu", "--runtime", "tensorrt"], "tensorrt does not run on a CPU"),
        (["--device", "cuda"], "TensorRT is not installed"),
        (["--device", "jetson"], "this machine is not a Jetson"),
    ],
)
def test_build_command_reports_errors_in_one_line(bundle, tmp_path, options: List[str], words: str):
    needs_rtx()
    done = run_cli("build", bundle.path, "-o", tmp_path / "e", *options, cwd=tmp_path)
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


# --- failures and further attempts ---------------------------------------------------


def test_builder_process_over_memory_limit_is_ended(bundle, tmp_path):
    needs_rtx()
    options = dataclasses.replace(SM86, memory_limit_mb=40)
    with pytest.raises(BuildError, match=r"needs more than its limit of 40 MB") as refusal:
        build(bundle.path, tmp_path / "e.plan", precision="fp32", device="rtx", tensorrt=options)
    assert "\n" not in str(refusal.value)
    assert list(tmp_path.iterdir()) == []


def test_memory_of_a_jetsons_gpu_counts(monkeypatch, tmp_path):
    """It is not in the resident memory of the builder: the available memory of the board shows it."""
    free = iter([6000.0, 5000.0, 3000.0, 4000.0])
    monkeypatch.setattr(process, "usable_memory_mb", lambda: next(free))
    monkeypatch.setattr(process, "_held_mb", lambda pid: 100.0)
    worker: Any = SimpleNamespace(pid=0, log=lambda size: "")
    screen: Any = SimpleNamespace(add_task=lambda *_, **__: 0, update=lambda *_, **__: None)
    watch = process._Watch(worker, screen, "Building", 2500.0, process.usable_memory_mb())
    watch()
    assert (watch.peak_mb, watch.system_mb) == (100.0, 1000.0)
    with pytest.raises(FailedBuildError, match="more than its limit of 2500 MB"):
        watch()
    assert (watch.peak_mb, watch.system_mb) == (100.0, 3000.0)


def test_full_disk_leaves_no_files(bundle, tmp_path, full_disk):
    needs_rtx()
    full_disk()
    with pytest.raises(StorageError, match="no space left on device"):
        build(bundle.path, tmp_path / "e.plan", precision="fp32", device="rtx", tensorrt=SM86)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_build_ends_its_builder_process(bundle, tmp_path, sent: signal.Signals):
    """The builder sleeps instead of building."""
    script = (
        "import signal\nfrom adq_edge.runtimes.tensorrt import process\n"
        "from factories import worker_functions\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "process.building = worker_functions\n"
        "watch = process._Watch.__call__\n"
        "process._Watch.__call__ = lambda self: (print(self._worker.pid, flush=True), watch(self))\n"
        "from adq_edge.cli import main; main()"
    )
    arguments = ["build", str(bundle.path), "-o", str(tmp_path / "e.plan"), "--fp32", "--device", "rtx"]
    needs_rtx()
    running = subprocess.Popen(
        [sys.executable, "-c", script, *arguments, "--sm", "86"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert running.stdout is not None
    builder = int(running.stdout.readline())
    running.send_signal(sent)
    assert running.wait(20) == 128 + sent
    assert list(tmp_path.iterdir()) == []
    assert not Path(f"/proc/{builder}").exists()


def test_error_names_the_signal_of_a_killed_builder(monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    monkeypatch.setattr(process, "building", worker_functions)
    monkeypatch.setattr(process._Watch, "__call__", lambda watch: os.kill(watch._worker.pid, signal.SIGSEGV))
    with pytest.raises(FailedBuildError, match="the builder was ended by SIGSEGV"):
        process.run_job(job(tmp_path), "Building")


def job(folder: Path) -> Job:
    return Job(
        runtime=TENSORRT_RTX.name,
        model=str(folder / "m.onnx"),
        plan=str(folder / "e.plan"),
        precision=Precision.FP32,
        route=Route.TYPED,
        networks=(),
        half=(),
        ranges={},
        image_size=(SIZE, SIZE),
        max_batch=1,
        compute_capabilities=("8.6",),
        dla=None,
        workspace_mb=64,
        lean=True,
        timing_cache=None,
    )


def test_error_contains_the_message_of_tensorrt(tmp_path):
    needs_rtx()
    (tmp_path / "m.onnx").write_bytes(b"no model")
    with pytest.raises(FailedBuildError) as refusal:
        process.run_job(job(tmp_path), "Building")
    assert "pars" in str(refusal.value).lower()
    assert refusal.value.failure.kind is FailureKind.OTHER
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


class Builder:
    """Fails with the given failures, then succeeds; keeps the jobs."""

    def __init__(self, *failures: Failure) -> None:
        self.failures = list(failures)
        self.jobs: List[Job] = []
        self.integers: List[int] = []

    def __call__(self, job: Job, title: str, *, memory_limit_mb: Any = None) -> Built:
        self.jobs.append(job)
        nodes = onnx.load(job.model).graph.node
        self.integers.append(sum(node.op_type == "QuantizeLinear" for node in nodes))
        if self.failures:
            raise FailedBuildError(self.failures.pop(0))
        Path(job.plan).write_bytes(b"plan")
        layers = (
            LayerReport("conv", "CaskConvolution", "INT8", "GPU"),
            LayerReport("r", "Reformat", "FP16", "GPU"),
        )
        return Built(BuildReport("10.3.0", "8.7", layers), 100.0)


def make(monkeypatch, inputs, tmp_path, builder: Builder):
    monkeypatch.setattr("adq_edge.builders.tensorrt.run_job", builder)
    return TensorRTEngineBuilder(SETTINGS, None).build(inputs, tmp_path / "e.plan").details


OUT = Failure(FailureKind.OUT_OF_MEMORY, "out of memory")


def test_out_of_memory_is_retried_with_less_memory(monkeypatch, inputs, tmp_path):
    builder = Builder(OUT, OUT)
    details = make(monkeypatch, inputs, tmp_path, builder)
    assert [(job.workspace_mb, job.lean) for job in builder.jobs] == [(512, False), (256, True), (128, True)]
    assert details.workspace_mb == 128


def make_lean(monkeypatch, inputs, tmp_path, builder: Builder, version: str = "8.5.2.2"):
    monkeypatch.setattr("adq_edge.builders.tensorrt.run_job", builder)
    settings = dataclasses.replace(SETTINGS, lean=True, version=version)
    return TensorRTEngineBuilder(settings, None).build(inputs, tmp_path / "e.plan").details


NO_KERNEL = Failure(FailureKind.NO_IMPLEMENTATION, "Could not find any implementation", "deconvolution")


def test_layer_without_a_kernel_is_tried_once_with_cudnn(monkeypatch, inputs, tmp_path):
    builder = Builder(NO_KERNEL)
    details = make_lean(monkeypatch, inputs, tmp_path, builder)
    assert [job.lean for job in builder.jobs] == [True, False]
    assert details.stripped == ()
    builder = Builder(NO_KERNEL, OUT, NO_KERNEL)  # too little memory for cuDNN
    with pytest.raises(BuildError, match="implementation"):
        make_lean(monkeypatch, inputs, tmp_path, builder)
    assert [job.lean for job in builder.jobs] == [True, False, True]
    builder = Builder(NO_KERNEL)  # release 11 has no cuDNN
    with pytest.raises(BuildError, match="implementation"):
        make_lean(monkeypatch, inputs, tmp_path, builder, "11.0.0")


def test_dla_build_that_fails_is_tried_once_with_a_calibration_cache(monkeypatch, inputs, tmp_path):
    """NVIDIA's sample for DLA passes ranges alone; a calibrator may be rejected beside a uint8 input."""
    other = Failure(FailureKind.OTHER, "Internal Error")
    on_dla = dataclasses.replace(SETTINGS, route=Route.IMPLICIT, options=TensorRTOptions(dla=0))
    on_gpu = dataclasses.replace(SETTINGS, route=Route.IMPLICIT)
    for settings, failures, caches in (
        (on_dla, [], [False]),
        (on_dla, [other], [False, True]),
        (on_dla, [other, other], [False, True]),
        (on_gpu, [other], [False]),
    ):
        builder = Builder(*failures)
        monkeypatch.setattr("adq_edge.builders.tensorrt.run_job", builder)
        if len(failures) < len(caches):
            TensorRTEngineBuilder(settings, None).build(inputs, tmp_path / "e.plan")
        else:
            with pytest.raises(BuildError, match="Internal Error"):
                TensorRTEngineBuilder(settings, None).build(inputs, tmp_path / "e.plan")
        assert [job.calibration_cache for job in builder.jobs] == caches


def test_out_of_memory_ends_after_a_few_attempts(monkeypatch, inputs, tmp_path):
    builder = Builder(*[OUT] * 20)
    with pytest.raises(BuildError, match="out of memory"):
        make(monkeypatch, inputs, tmp_path, builder)
    assert len(builder.jobs) == 4


def test_small_workspace_grows_to_its_limit(monkeypatch, inputs, tmp_path):
    small = Failure(FailureKind.SMALL_WORKSPACE, "no implementation, workspace", "conv")
    builder = Builder(small)
    assert make(monkeypatch, inputs, tmp_path, builder).workspace_mb == 1024
    with pytest.raises(BuildError):
        make(monkeypatch, inputs, tmp_path, Builder(small, small, small))


def test_layer_without_integer_kernel_loses_its_pairs(monkeypatch, inputs, tmp_path):
    layers = [
        layer.node.name for layer in integer_layers(inputs.calibrated.float_model.region, Target.TENSORRT)
    ]
    missing = Failure(
        FailureKind.NO_IMPLEMENTATION, "Could not find any implementation", f"{layers[5]} + /Relu_9"
    )
    builder = Builder(missing)
    details = make(monkeypatch, inputs, tmp_path, builder)
    assert details.stripped == (layers[5],)
    assert builder.integers[1] < builder.integers[0]
    assert any(layers[5] in warning for warning in details.warnings)
    assert 0.0 < details.seconds < 60.0

    many = [Failure(FailureKind.NO_IMPLEMENTATION, "none", name) for name in layers]
    builder = Builder(*many)
    with pytest.raises(BuildError):
        make(monkeypatch, inputs, tmp_path, builder)
    assert len(builder.jobs) == MOST_STRIPPED + 1


def test_engine_of_many_dla_parts_causes_a_warning(monkeypatch, inputs, tmp_path):
    layers = tuple(LayerReport("{ForeignNode[a...b]}", "DLA", "INT8", "DLA") for _ in range(17))
    report = Built(BuildReport("8.5.2.2", "7.2", layers), 100.0)
    monkeypatch.setattr("adq_edge.builders.tensorrt.run_job", lambda *_, **__: report)
    settings = dataclasses.replace(SETTINGS, options=TensorRTOptions(dla=0))
    details = TensorRTEngineBuilder(settings, None).build(inputs, tmp_path / "e.plan").details
    assert any("17 parts for the DLA and may not load: a DLA core holds 16" in w for w in details.warnings)


MODES = (PowerMode(8, "MODE_20W_6CORE"), PowerMode(0, "MODE 10W/x"))
LOCKED, UNLOCKED, OTHER = (
    BoardState(mode, is_locked, None, None, None)
    for mode, is_locked in ((MODES[0], True), (MODES[0], False), (MODES[1], None))
)


@pytest.mark.parametrize(
    ("board", "name"),
    [
        (LOCKED, "timing-8.5.2.2-sm72-MODE_20W_6CORE.cache"),
        (UNLOCKED, "timing-8.5.2.2-sm72-MODE_20W_6CORE-unlocked.cache"),
        (OTHER, "timing-8.5.2.2-sm72-MODE_10W_x.cache"),
    ],
)
def test_timings_of_one_power_mode_are_kept_apart(monkeypatch, board: BoardState, name: str):
    monkeypatch.setattr(choosing, "read_board_state", lambda: board)
    chosen = choose_on(monkeypatch, XAVIER, Device.JETSON)
    assert chosen.timing_cache is not None
    assert (chosen.timing_cache.name, chosen.board) == (name, board)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (LOCKED, LOCKED, []),
        (UNLOCKED, UNLOCKED, ["the clocks were not locked"]),
        (LOCKED, OTHER, ["changed during the build"]),
        (None, None, []),
    ],
)
def test_clocks_that_mislead_the_choice_of_kernels_cause_a_warning(
    monkeypatch, inputs, tmp_path, before, after, words: List[str]
):
    monkeypatch.setattr("adq_edge.builders.tensorrt.run_job", Builder())
    monkeypatch.setattr("adq_edge.builders.tensorrt.read_board_state", lambda: after)
    builder = TensorRTEngineBuilder(dataclasses.replace(SETTINGS, board=before), None)
    warnings = builder.build(inputs, tmp_path / "e.plan").details.warnings
    found = [warning for warning in warnings if "clock" in warning]
    assert len(found) == len(words)
    assert all(word in warning for word, warning in zip(words, found))


def test_few_int8_layers_cause_a_warning(monkeypatch, inputs, tmp_path):
    details = make(monkeypatch, inputs, tmp_path, Builder())
    assert details.layers == {"INT8": 1}
    assert any("only 1 of" in warning for warning in details.warnings)


def test_tensorrt_calibrator_writes_a_ranges_file(monkeypatch, bundle, dataset, tmp_path):
    """A function replaces TensorRT's calibrator; the float-input model and the file are real."""
    model = FloatModel.load(bundle)
    measured = model.region.measured
    floating = BuildInputs(bundle, Precision.INT8, model)

    def calibrate(job: Job, title: str) -> Built:
        graph = onnx.load(job.model)
        (taken,) = graph.graph.input
        assert taken.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
        assert np.load(str(job.images)).dtype == np.uint8
        images = np.load(str(job.images))[:1]
        map_of_floats = run_map(graph, images.astype(np.float32))
        np.testing.assert_array_equal(map_of_floats, run_map(model.proto, images))
        return Built(BuildReport("10.3.0", None, None, dict.fromkeys(measured, 2.5)), None)

    monkeypatch.setattr("adq_edge.builders.tensorrt.run_job", calibrate)
    source = image_source(dataset, 3)
    path = TensorRTEngineBuilder(SETTINGS, 2).calibrate(floating, "trt-entropy", source, 2).path
    from adq_edge.artifacts.ranges import read_ranges

    ranges = read_ranges(path, bundle.manifest.model_sha256, measured)
    path.unlink()
    assert ranges.calibrator == "trt-entropy"
    assert set(ranges.tensors.values()) == {(-2.5, 2.5)}
    monkeypatch.setattr(
        "adq_edge.builders.tensorrt.run_job",
        lambda job, title: Built(BuildReport("8", None, None, {}), None),
    )
    with pytest.raises(AdqError, match="trt-entropy found no range"):
        TensorRTEngineBuilder(SETTINGS, 2).calibrate(floating, "trt-entropy", source, 2)
