"""Engines whose networks compute in bfloat16."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import adq_edge.hardware.bfloat16
from adq_edge.artifacts.bundle import Bundle
from adq_edge.builders.build import build
from adq_edge.builders.cpu import check_float_scoring
from adq_edge.core.errors import BuildError, EngineError
from adq_edge.core.options import Precision
from adq_edge.hardware.bfloat16 import BUILD_WITHOUT_BFLOAT16, why_no_bfloat16
from adq_edge.hardware.environment import Cpu
from adq_edge.metrics.agreement import MapComparison
from adq_edge.quantization.dynamic_ranges import float32_nodes
from adq_edge.quantization.float_model import FloatModel
from adq_edge.quantization.passes.frame import run_passes
from adq_edge.quantization.passes.pipelines import OPENVINO
from adq_edge.runtimes.registry import load_engine

MINIMUM_SNR_DB = 33
NO_BFLOAT16 = "none of avx512_bf16 and amx_bf16"


@pytest.fixture
def old_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = Cpu("Core i5", ("avx2",))
    monkeypatch.setattr(adq_edge.hardware.bfloat16, "read_cpu", lambda root: cpu)


@pytest.fixture(scope="module")
def engine(narrow_built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("openvino")
    if why_no_bfloat16() is not None:
        pytest.skip(str(why_no_bfloat16()))
    path = tmp_path_factory.mktemp("bf16") / "e.onnx"
    return build(narrow_built / "bundles" / "parts", path, precision="bf16", runtime="openvino").path


def test_networks_compute_in_bfloat16_and_the_scoring_in_float32(engine: Path, narrow_engines):
    with load_engine(engine) as bf16, load_engine(narrow_engines[Precision.FP32]) as fp32:
        images = np.random.default_rng(0).integers(0, 256, (4, *bf16.sidecar.image_size, 3), np.uint8)
        kinds = set(bf16.sidecar.operators)
        comparison = MapComparison()
        for expected, measured in zip(fp32.run(images).maps, bf16.run(images).maps):
            comparison.update(expected, measured)
    assert "Convolution:bf16" in kinds
    assert "Convolution:f32" not in kinds
    assert {kind for kind in kinds if kind.endswith(":bf16")} <= {
        *("Convolution:bf16", "Reorder:bf16", "Pooling:bf16")
    }
    assert MINIMUM_SNR_DB <= comparison.compute().snr_db < 80


def test_onnxruntime_has_no_bfloat16(bundle: Bundle, tmp_path: Path):
    with pytest.raises(BuildError, match=r"ONNX Runtime has no bf16 convolutions.*--runtime openvino"):
        build(bundle.path, tmp_path / "e.onnx", precision="bf16")
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("old_processor")
def test_a_processor_without_bfloat16_is_refused_by_name(bundle: Bundle, tmp_path: Path):
    pytest.importorskip("openvino")
    with pytest.raises(BuildError, match=rf"--bf16: the processor \(Core i5\) has {NO_BFLOAT16}"):
        build(bundle.path, tmp_path / "e.onnx", precision="bf16", runtime="openvino")
    assert not list(tmp_path.iterdir())


def test_an_engine_is_not_loaded_where_it_would_compute_in_float32(engine: Path, request):
    request.getfixturevalue("old_processor")
    with pytest.raises(EngineError, match=f"a bf16 engine, but .*{NO_BFLOAT16}"):
        load_engine(engine)


def test_an_engine_is_not_loaded_in_a_runtime_that_would_compute_it_in_float32(engine: Path):
    with pytest.raises(
        EngineError, match="a bf16 engine, which ONNX Runtime would compute in float32"
    ) as one:
        load_engine(engine, runtime="onnxruntime")
    assert one.value.fix == f"{BUILD_WITHOUT_BFLOAT16}. Or omit --runtime"


def test_an_engine_that_openvino_cannot_compile_is_not_sent_to_onnx_runtime(
    engine: Path, narrow_engines, monkeypatch
):
    def fail(*_):
        raise RuntimeError("object is not initialized")  # OpenVINO with ONEDNN_MAX_CPU_ISA=AVX2

    monkeypatch.setattr("adq_edge.runtimes.openvino.OpenVinoEngine._compile", fail)
    with pytest.raises(EngineError, match="object is not initialized") as error:
        load_engine(engine)
    assert error.value.fix == BUILD_WITHOUT_BFLOAT16
    with pytest.raises(EngineError, match="object is not initialized") as error:
        load_engine(narrow_engines[Precision.FP32], runtime="openvino")
    assert error.value.fix == "Use --runtime onnxruntime"


def test_a_scoring_that_openvino_computes_in_bfloat16_is_refused(bundle: Bundle):
    model = FloatModel.load(bundle)
    graph = run_passes(model.proto, OPENVINO[Precision.BF16])
    check_float_scoring(graph, model)
    scoring = set(float32_nodes(model))
    node = next(node for node in graph.graph.node if node.name in scoring and node.op_type == "ReduceSum")
    node.op_type = "MatMul"
    with pytest.raises(BuildError, match="--bf16: its scoring has the operator MatMul"):
        check_float_scoring(graph, model)
