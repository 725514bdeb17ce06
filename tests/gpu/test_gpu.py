"""What runs on an NVIDIA GPU or a Jetson only: `make gpu`, at most 12 minutes.

Each test names the row of docs/run-where.md that it retires; the report at the end lists the rows.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, List, Optional

import numpy as np
import pytest

from adq_edge.benchmark.bench import bench
from adq_edge.builders.base import BuildInputs
from adq_edge.builders.build import build
from adq_edge.builders.tensorrt import TensorRTEngineBuilder
from adq_edge.builders.tensorrt_options import choose_settings
from adq_edge.calibration.calibrated_model import calibrate_model
from adq_edge.calibration.sources import image_source, make_source
from adq_edge.core.options import COMMON_PRECISIONS, Device, Precision, Route, TensorRTOptions
from adq_edge.hardware.jetson import read_jetson
from adq_edge.quantization.float_model import FloatModel
from adq_edge.report.load import load_results
from adq_edge.report.submit import make_submission
from adq_edge.runtimes.registry import load_engine
from adq_edge.runtimes.tensorrt.engine import TensorRTEngine
from adq_edge.runtimes.tensorrt.job import OwnCalibrator
from factories.gpu_report import (
    ARITHMETIC,
    BENCH_ON_BOARD,
    DLA_AND_CUDNN,
    ENGINES,
    GRAPHS,
    RTX,
    TRAINING,
)

LEAST_SNR_DB = {Precision.FP32: 80.0, Precision.FP16: 40.0, Precision.INT8: 20.0}
"""Of the anomaly map, against the FP32 CPU engine; the model of the tests is small and untrained."""
LEAST_EMULATION_DB = 25.0
"""Of an INT8 map, against the emulation of the same engine on the CPU."""


@pytest.fixture(scope="session")
def device() -> str:
    """Return the device of TensorRT on this machine; skip where TensorRT cannot be used."""
    pytest.importorskip("tensorrt", exc_type=ImportError)
    pytest.importorskip("pycuda")
    return Device.CUDA.value if read_jetson() is None else Device.JETSON.value


def release() -> int:
    import tensorrt

    return int(tensorrt.__version__.split(".")[0])


def snr_db(reference: np.ndarray, maps: np.ndarray) -> float:
    exact = reference.astype(np.float64)
    error = np.square(exact - maps.astype(np.float64)).sum()
    return float(10 * np.log10(np.square(exact).sum() / max(error, 1e-30)))


def check(
    gpu_bundle: Any, dataset: Path, path: Path, reference: Path, precision: Precision, device: str, route: Any
) -> None:
    """Build an engine, and compare its maps of several batch sizes with those of the CPU's FP32 engine."""
    options = TensorRTOptions(route=route, max_batch=4)
    built = build(
        gpu_bundle.path, path, precision=precision, calib_data=dataset, device=device, tensorrt=options
    )
    images = np.stack(list(make_source("images", dataset, 7).images(built.sidecar.image_size)))
    batches = [images[:1], images[1:5], images[5:]]
    with load_engine(reference) as cpu, load_engine(built.path) as gpu:
        assert isinstance(gpu, TensorRTEngine)
        expected = cpu.run(images)
        outputs = list(gpu.run_many(batches, gpu.stream_counts[-1]))
        np.testing.assert_array_equal(outputs[1].maps, gpu.run(batches[1]).maps)
        gpu.time_stages = True
        gpu.run(batches[1])
        assert all(stage >= 0 for stage in gpu.stages() or ())
    maps = np.concatenate([output.maps for output in outputs])
    scores = np.concatenate([output.scores for output in outputs])
    assert snr_db(expected.maps, maps) > LEAST_SNR_DB[precision]
    assert scores.shape == expected.scores.shape


@pytest.mark.gpu(RTX)
@pytest.mark.parametrize("precision", COMMON_PRECISIONS)
def test_rtx_engine(gpu_bundle, dataset, reference, tmp_path, precision: Precision):
    pytest.importorskip("tensorrt_rtx", exc_type=ImportError)
    pytest.importorskip("pycuda")
    check(gpu_bundle, dataset, tmp_path / "e.plan", reference, precision, "rtx", None)


@pytest.mark.gpu(ENGINES)
@pytest.mark.parametrize("precision", COMMON_PRECISIONS)
@pytest.mark.parametrize("route", [None, Route.IMPLICIT, Route.EXPLICIT])
def test_tensorrt_engine(
    device: str, gpu_bundle, dataset, reference, tmp_path, precision: Precision, route: Optional[Route]
):
    if route is not None and release() >= 11:
        pytest.skip("release 11 has one route")
    if route is not None and precision is not Precision.INT8:
        pytest.skip("routes differ in INT8 only")
    check(gpu_bundle, dataset, tmp_path / "e.plan", reference, precision, device, route)


@pytest.mark.gpu(GRAPHS)
def test_cuda_graph_gives_the_same_maps_as_single_kernels(device: str, gpu_bundle, dataset, tmp_path):
    built = build(gpu_bundle.path, tmp_path / "e.plan", precision="fp16", device=device)
    images = np.stack(list(make_source("images", dataset, 2).images(built.sidecar.image_size)))
    with load_engine(built.path) as engine:
        engine.use_cuda_graph = False
        expected = [engine.run(images[i : i + 1]).maps for i in (0, 1, 0, 1)]
        engine.use_cuda_graph = True
        found = [engine.run(images[i : i + 1]).maps for i in (0, 1, 0, 1)]
        work = engine.host_work()
    np.testing.assert_array_equal(np.concatenate(found), np.concatenate(expected))
    assert work is not None
    assert work.is_graph
    assert work.enqueue_ms > 0


@pytest.mark.gpu(GRAPHS)
def test_bench_measures_the_time_to_start_a_query(device: str, gpu_bundle, tmp_path):
    built = build(gpu_bundle.path, tmp_path / "e.plan", precision="fp16", device=device)
    report = bench(built.path, quick=True, output=tmp_path / "e.quick.bench.json", progress=False)
    (engine,) = report.engines
    assert engine.enqueue_ms is not None
    assert engine.single_stream is not None
    assert 0 < engine.enqueue_ms < engine.single_stream.latency.p99_ms
    assert engine.cuda_graph is True
    submission = make_submission(load_results([tmp_path / "e.quick.bench.json"]), read_jetson())
    assert submission.engines[0].single_stream == engine.single_stream


@pytest.mark.gpu(ARITHMETIC)
def test_int8_maps_are_those_of_the_emulation(device: str, gpu_bundle, dataset, tmp_path, record_property):
    options = TensorRTOptions(route=None if release() >= 11 else Route.EXPLICIT)
    built = build(
        gpu_bundle.path,
        tmp_path / "e.plan",
        precision="int8",
        calib_data=dataset,
        device=device,
        tensorrt=options,
    )
    model = FloatModel.load(gpu_bundle)
    calibrated = calibrate_model(gpu_bundle, model, "lp", image_source(dataset, 300))
    inputs = BuildInputs(gpu_bundle, Precision.INT8, model, calibrated)
    builder = TensorRTEngineBuilder(choose_settings(Device(device), Precision.INT8, "lp", options), None)
    images = np.stack(list(make_source("images", dataset, 4).images(built.sidecar.image_size)))
    with builder.open_candidate(inputs) as emulated, load_engine(built.path) as gpu:
        expected = emulated.run(images).maps
        maps = np.concatenate([gpu.run(images[i : i + 1]).maps for i in range(4)])
    record_property("snr_db", snr_db(expected, maps))
    assert snr_db(expected, maps) > LEAST_EMULATION_DB


@pytest.mark.gpu(ENGINES)
@pytest.mark.parametrize("calibrator", list(OwnCalibrator))
def test_own_calibrator_of_tensorrt(device: str, gpu_bundle, dataset, tmp_path, calibrator: OwnCalibrator):
    if release() >= 11:
        pytest.skip("release 11 has no calibrators")
    built = build(
        gpu_bundle.path,
        tmp_path / "e.plan",
        precision="int8",
        calib=calibrator.value,
        calib_data=dataset,
        samples=4,
        device=device,
    )
    assert built.path.stat().st_size > 0


@pytest.mark.gpu(DLA_AND_CUDNN)
@pytest.mark.parametrize("precision", [Precision.FP16, Precision.INT8])
def test_dla_engine(device: str, gpu_bundle, dataset, reference, tmp_path, precision: Precision):
    jetson = read_jetson()
    if jetson is None or not jetson.dla_cores:
        pytest.skip("no DLA core here")
    if release() >= 11:
        pytest.skip("release 11 has no weakly typed networks for DLA")
    core = jetson.dla_cores - 1
    options = TensorRTOptions(dla=core)
    built = build(
        gpu_bundle.path,
        tmp_path / "e.plan",
        precision=precision,
        calib_data=dataset,
        device=device,
        tensorrt=options,
    )
    images = np.stack(list(make_source("images", dataset, 2).images(built.sidecar.image_size)))
    with load_engine(reference) as cpu, load_engine(built.path) as dla:
        expected = cpu.run(images).maps
        maps = np.concatenate([dla.run(images[i : i + 1]).maps for i in range(2)])
    assert snr_db(expected, maps) > LEAST_SNR_DB[precision]


@pytest.mark.gpu(DLA_AND_CUDNN)
def test_build_with_little_memory_uses_no_cudnn(device: str, gpu_bundle, tmp_path):
    if release() >= 11:
        pytest.skip("release 11 has no cuDNN")
    chosen = choose_settings(Device(device), Precision.FP16, "lp", TensorRTOptions())
    model = FloatModel.load(gpu_bundle)
    inputs = BuildInputs(gpu_bundle, Precision.FP16, model, None)
    builder = TensorRTEngineBuilder(dataclasses.replace(chosen, lean=True), None)
    builder.build(inputs, tmp_path / "e.plan")
    assert (tmp_path / "e.plan").stat().st_size > 0
    assert chosen.timing_cache is not None
    assert chosen.timing_cache.is_file()


@pytest.mark.gpu(BENCH_ON_BOARD)
def test_figures_of_this_board_can_be_submitted(device: str, gpu_bundle, tmp_path):
    jetson = read_jetson()
    if jetson is None:
        pytest.skip("this machine is not a Jetson")
    built = build(gpu_bundle.path, tmp_path / "e.plan", precision="fp16", device=device)
    bench(built.path, quick=True, output=tmp_path / "e.quick.bench.json", progress=False)
    submission = make_submission(load_results([tmp_path / "e.quick.bench.json"]), jetson)
    assert submission.board.jetpack == jetson.jetpack
    assert submission.board.before is not None
    assert submission.engines[0].sensors is not None


@pytest.mark.gpu(TRAINING)
@pytest.mark.parametrize(
    "settings",
    [{"precision": "float32"}, {"precision": "float16"}, {"precision": "bfloat16", "compile": True}],
)
def test_training_on_cuda_lowers_the_loss(dataset, tmp_path, settings):
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("torch has no CUDA here")
    from adq_edge.models.checkpoint import load_checkpoint
    from adq_edge.training.train import train

    losses: List[float] = []
    for epochs in (1, 6):
        result = train(
            dataset,
            output=tmp_path / "m.pt",
            arch="stfpm",
            epochs=epochs,
            batch_size=4,
            image_size=(64, 64),
            progress=False,
            **settings,
        )
        losses.append(result.loss)
    assert np.isfinite(losses).all()
    assert losses[1] < losses[0]
    model = load_checkpoint(tmp_path / "m.pt").model
    assert all(tensor.device.type == "cpu" for tensor in model.state_dict().values())
