"""Engines on a real GPU: `pytest -m gpu`, with pycuda and TensorRT or TensorRT-RTX installed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from adq_edge.builders.build import build
from adq_edge.calibration.sources import make_source
from adq_edge.core.options import COMMON_PRECISIONS, Precision, Route, TensorRTOptions
from adq_edge.runtimes.registry import load_engine
from adq_edge.runtimes.tensorrt.engine import TensorRTEngine

pytestmark = pytest.mark.gpu

LEAST_SNR_DB = {Precision.FP32: 80.0, Precision.FP16: 40.0, Precision.INT8: 20.0}
"""Of the anomaly map, against the FP32 CPU engine; the model of the tests is small and untrained."""


def check(
    bundle, dataset: Path, path: Path, reference: Path, precision: Precision, device: str, route
) -> None:
    pytest.importorskip("pycuda")
    options = TensorRTOptions(route=route, max_batch=4)
    built = build(bundle.path, path, precision=precision, calib_data=dataset, device=device, tensorrt=options)
    images = np.stack(list(make_source("images", dataset, 7).images(built.sidecar.image_size)))
    batches = [images[:1], images[1:5], images[5:]]
    with load_engine(reference) as cpu, load_engine(built.path) as gpu:
        assert isinstance(gpu, TensorRTEngine)
        expected = cpu.run(images)
        outputs = list(gpu.run_many(batches, gpu.stream_counts[-1]))
        np.testing.assert_array_equal(outputs[1].maps, gpu.run(batches[1]).maps)
        replayed = [gpu.run(batches[1]).maps for _ in range(3)][-1]
        assert gpu.host_work().is_graph is (device != "rtx")
        np.testing.assert_array_equal(replayed, outputs[1].maps)
        gpu.time_stages = True
        gpu.run(batches[1])
        assert all(stage >= 0 for stage in gpu.stages())
    maps = np.concatenate([output.maps for output in outputs]).astype(np.float64)
    scores = np.concatenate([output.scores for output in outputs])
    error = np.square(maps - expected.maps).sum()
    snr_db = 10 * np.log10(np.square(expected.maps.astype(np.float64)).sum() / max(error, 1e-30))
    assert snr_db > LEAST_SNR_DB[precision]
    assert scores.shape == expected.scores.shape


@pytest.mark.parametrize("precision", COMMON_PRECISIONS)
def test_rtx_engine(bundle, dataset, engines, tmp_path, precision: Precision):
    pytest.importorskip("tensorrt_rtx", exc_type=ImportError)
    check(bundle, dataset, tmp_path / "e.plan", engines[Precision.FP32], precision, "rtx", None)


@pytest.mark.parametrize("precision", COMMON_PRECISIONS)
@pytest.mark.parametrize("route", [None, Route.IMPLICIT, Route.EXPLICIT])
def test_cuda_engine(bundle, dataset, engines, tmp_path, precision: Precision, route):
    tensorrt = pytest.importorskip("tensorrt", exc_type=ImportError)
    if route is not None and int(tensorrt.__version__.split(".")[0]) >= 11:
        pytest.skip("release 11 has one route")
    check(bundle, dataset, tmp_path / "e.plan", engines[Precision.FP32], precision, "cuda", route)
