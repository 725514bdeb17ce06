"""Engines that emulate TensorRT on a CPU: built, evaluated, compared; and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Dict

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from adq_edge.artifacts.sidecar import read_sidecar
from adq_edge.benchmark.bench import bench
from adq_edge.builders.base import BuildInputs
from adq_edge.builders.build import build
from adq_edge.builders.tensorrt_graphs import make_graph
from adq_edge.calibration.calibrate import calibrate_bundle
from adq_edge.calibration.calibrated_model import CalibratedModel
from adq_edge.calibration.sources import image_source
from adq_edge.core.errors import BuildError, EngineError
from adq_edge.core.options import FP8_CALIBRATOR, Precision, Route
from adq_edge.evaluation.compare import Comparison, compare
from adq_edge.evaluation.evaluate import evaluate
from adq_edge.quantization.float_model import FloatModel
from adq_edge.quantization.passes.emulated_float16 import emulate_float16
from adq_edge.quantization.passes.frame import run_passes
from adq_edge.runtimes.registry import load_engine
from factories.command_line import run_cli
from factories.images import SIZE

EMULATION = "tensorrt-emulation"
KINDS = {
    "fp32": (Precision.FP32, None),
    "fp16": (Precision.FP16, None),
    "int8": (Precision.INT8, None),
    "fp8": (Precision.FP8, None),
    "sparse-fp16": (Precision.FP16, "2:4"),
    "sparse-int8": (Precision.INT8, "2:4"),
}


@pytest.fixture(scope="module")
def emulated(narrow_bundle, dataset: Path, tmp_path_factory) -> Dict[str, Path]:
    folder = tmp_path_factory.mktemp("emulated")
    return {
        name: build(
            narrow_bundle.path,
            folder / f"{name}.onnx",
            precision=precision,
            calib_data=dataset,
            runtime=EMULATION,
            sparsity=sparsity,
        ).path
        for name, (precision, sparsity) in KINDS.items()
    }


def weights_of(engine: Path) -> Dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(str(engine)).graph.initializer}


def test_sidecar_names_emulation_precision_and_sparsity(emulated):
    for name, (precision, sparsity) in KINDS.items():
        sidecar = read_sidecar(emulated[name])
        assert (sidecar.runtime, sidecar.device, sidecar.precision) == (EMULATION, "cpu", precision)
        assert (sidecar.sparsity, sidecar.calibration is not None) == (sparsity, name.endswith("8"))
    fp8 = read_sidecar(emulated["fp8"]).calibration
    assert fp8 is not None
    assert fp8.calibrator == FP8_CALIBRATOR


def test_each_format_costs_more_than_the_wider_one(emulated, dataset, tmp_path):
    ratios = {}
    for name in ("fp16", "int8", "fp8", "sparse-fp16"):
        result = compare(emulated["fp32"], emulated[name], dataset, output=tmp_path / f"{name}.json", worst=0)
        assert result.maps.snr_db is not None
        ratios[name] = result.maps.snr_db
    assert ratios["fp16"] > 45
    assert ratios["fp16"] > ratios["int8"] + 10
    assert ratios["fp16"] > ratios["fp8"] + 10
    assert min(ratios["int8"], ratios["fp8"]) > ratios["sparse-fp16"]


def test_sparse_integers_keep_the_pattern(emulated):
    """Of four consecutive input channels two are zero, in the weights and in their integers."""
    checked = 0
    for values in weights_of(emulated["sparse-int8"]).values():
        if values.ndim == 4 and len(values) > 1 and values.shape[1] % 4 == 0:
            groups = values.reshape(len(values), -1, 4, *values.shape[2:])
            assert ((groups != 0).sum(2) <= 2).all()
            checked += 1
    assert checked >= 28


def test_sparse_ranges_do_not_replace_those_of_the_dense_model(emulated, narrow_bundle):
    dense = {path.name for path in narrow_bundle.ranges_folder.glob("*.json")}
    sparse = {path.name for path in (narrow_bundle.ranges_folder / "2of4").glob("*.json")}
    assert sparse <= dense
    for name in sparse:
        tensors = [
            json.loads((folder / name).read_text())["tensors"]
            for folder in (narrow_bundle.ranges_folder, narrow_bundle.ranges_folder / "2of4")
        ]
        assert tensors[0] != tensors[1]


def test_emulated_engine_computes_the_graph_that_tensorrt_gets(emulated, narrow_bundle, dataset):
    model, source = FloatModel.load(narrow_bundle), image_source(dataset, 300)
    (measured,) = calibrate_bundle(narrow_bundle, model, [FP8_CALIBRATOR], source)
    calibrated = CalibratedModel(measured.equalized, measured.ranges, {}, measured.path)
    inputs = BuildInputs(narrow_bundle, Precision.FP8, model, calibrated)
    graph = make_graph(inputs, Route.TYPED).model
    emulation = run_passes(graph, (emulate_float16,))
    assert emulation.SerializeToString() == emulated["fp8"].read_bytes()


@pytest.mark.parametrize("name", list(KINDS))
def test_optimizations_of_onnx_runtime_change_no_result(emulated, name: str):
    """ONNX Runtime removed each ReLU before an FP8 pair."""
    images = np.random.default_rng(0).integers(0, 256, (1, SIZE, SIZE, 3), np.uint8)
    plain = onnxruntime.SessionOptions()
    plain.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(emulated[name].read_bytes(), plain)
    (expected,) = session.run(["anomaly_map"], {"image": images})
    with load_engine(emulated[name], threads=1) as engine:
        actual = engine.run(images).maps
    error = float(((actual - expected) ** 2).sum() / (expected**2).sum())
    assert error < 1e-3


def test_eval_stores_a_threshold_of_the_emulated_engine(emulated, dataset, tmp_path):
    result = evaluate(emulated["fp8"], dataset, output=tmp_path / "fp8.eval.json")
    assert result.precision == "fp8"
    threshold = read_sidecar(emulated["fp8"]).threshold
    assert threshold is not None
    assert threshold.score == result.threshold


def test_compare_shows_several_engines_in_one_table(emulated, dataset, tmp_path):
    engines = [emulated[name] for name in ("fp32", "fp16", "int8", "fp8", "sparse-int8")]
    shown = run_cli("compare", *engines, "--data", dataset, "--worst", "0", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    for words in ("FP16", "INT8", "FP8", "INT8 2:4", "map SNR"):
        assert words in shown.stdout
    files = sorted((tmp_path / "benchmarks" / "results").glob("*.compare.json"))
    assert {Comparison.read(path).engine_b.precision for path in files} == {"fp16", "int8", "fp8"}
    assert len(files) == 4
    refused = run_cli("compare", *engines, "--output", "one.json", cwd=tmp_path)
    assert refused.returncode == 2
    assert "--output names one file, but 4 engines" in refused.stderr


# --- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--fp8"], "ONNX Runtime has no fp8 convolutions on a CPU"),
        (["--fp8", "--runtime", "openvino"], "OpenVINO has no fp8 convolutions on a CPU"),
        (["--fp8", "--int8"], "more than one precision asked for"),
        (["--sparsity", "2:4"], "ONNX Runtime has no kernels for 2:4 sparsity on a CPU"),
        (["--fp8", "--runtime", EMULATION, "--max-drop", "0.1"], "--max-drop is for INT8 engines only"),
        (["--bf16", "--runtime", EMULATION], "has no bf16 convolutions"),
        (
            ["--fp8", "--device", "rtx", "--sm", "86"],
            "--sm 86 (compute capability 8.6) has no tensor cores for FP8",
        ),
        (["--device", "rtx", "--sm", "75", "--sparsity", "2:4"], "has no tensor cores for sparse weights"),
        (
            ["--fp8", "--device", "rtx", "--sm", "89", "--route", "explicit"],
            "FP8 needs strongly typed networks",
        ),
    ],
)
def test_build_refuses_in_one_line(narrow_bundle, tmp_path, options, words: str):
    if "openvino" in options:
        pytest.importorskip("openvino")
    if "rtx" in options:
        pytest.importorskip("tensorrt_rtx", exc_type=ImportError)
    refused = run_cli("build", narrow_bundle.path, *options, cwd=tmp_path)
    assert refused.returncode == 2
    assert words in refused.stderr
    assert not list(tmp_path.rglob("*.onnx"))


def test_emulated_engine_is_not_loaded_by_another_runtime(emulated):
    with pytest.raises(EngineError, match="built for tensorrt-emulation, onnxruntime cannot load it"):
        load_engine(emulated["int8"], runtime="onnxruntime")


def test_bench_refuses_an_emulated_engine(emulated, tmp_path):
    with pytest.raises(EngineError, match="emulates an engine of another device"):
        bench(emulated["fp8"], quick=True, output=tmp_path / "b.json")


def test_name_of_an_emulated_engine_differs_from_that_of_a_cpu_engine(narrow_bundle, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    built = build(narrow_bundle.path, precision="fp16", runtime=EMULATION, sparsity="2:4")
    assert built.path.name == "parts-fp16-2of4-emulated.onnx"


def test_calibrator_of_quantized_training_is_refused(narrow_bundle, tmp_path):
    with pytest.raises(BuildError, match="qat"):
        build(narrow_bundle.path, tmp_path / "e.onnx", precision="fp8", calib="qat", runtime=EMULATION)
