"""Calibrators and settings of a TensorRT build."""

from __future__ import annotations

import dataclasses
import types
from typing import Any, Dict, List

import numpy as np
import pytest

from adq_edge.core.errors import BuildError
from adq_edge.core.options import Precision, Route
from adq_edge.core.runtimes import TENSORRT
from adq_edge.runtimes.tensorrt import building
from adq_edge.runtimes.tensorrt.calibrators import cache_reader, own_calibrator
from adq_edge.runtimes.tensorrt.job import Job, OwnCalibrator
from adq_edge.runtimes.tensorrt.release import Release
from factories.recording_tensorrt import SimulatedMachine
from factories.tensorrt_plans import IMAGES, SIZE, install


class Base:
    """The base class of a calibrator; TensorRT crashes if its constructor was not called."""

    constructed = False

    def __init__(self) -> None:
        self.constructed = True


def release(version: str, **members: Any) -> Release:
    return Release(types.SimpleNamespace(**members), TENSORRT, version)


def test_cache_reader_detects_an_ignored_cache():
    reader = cache_reader(release("8.5.2.2", IInt8EntropyCalibrator2=Base), b"TRT-8502-...")
    assert reader.constructed
    assert (reader.read_calibration_cache(), reader.get_batch_size()) == (b"TRT-8502-...", 1)
    assert not reader.asked_for_data
    assert reader.get_batch(["image"]) is None
    assert reader.asked_for_data


@pytest.mark.parametrize("kind", list(OwnCalibrator))
def test_own_calibrators_copy_each_image_once_as_float(monkeypatch, kind: OwnCalibrator):
    machine = install(monkeypatch, SimulatedMachine())
    fed: List[np.ndarray] = []
    monkeypatch.setattr(
        machine.driver, "memcpy_htod", lambda to, host: fed.append(host.copy()), raising=False
    )
    bases = {name: type(name, (Base,), {}) for name in ("Entropy", "MinMax", "Legacy")}
    installed = release(
        "10.3.0",
        IInt8EntropyCalibrator2=bases["Entropy"],
        IInt8MinMaxCalibrator=bases["MinMax"],
        IInt8LegacyCalibrator=bases["Legacy"],
    )
    machine.push(1)
    calibrator = own_calibrator(installed, kind, IMAGES[:3])
    expected = {"trt-entropy": "Entropy", "trt-minmax": "MinMax", "trt-percentile": "Legacy"}[kind.value]
    assert isinstance(calibrator, bases[expected])
    assert calibrator.constructed
    pointers = [calibrator.get_batch(["image"]) for _ in range(4)]
    assert pointers[:3] == [[int(pointer[0])] for pointer in pointers[:3]]
    assert pointers[3] is None
    np.testing.assert_array_equal(np.concatenate(fed), IMAGES[:3].astype(np.float32))
    calibrator.write_calibration_cache(memoryview(b"cache"))
    assert calibrator.cache == b"cache"
    assert calibrator.read_calibration_cache() is None


class Tensor:
    def __init__(self, name: str, dtype: str = "float32") -> None:
        self.name, self.dtype = name, dtype
        self.range: Any = None

    def set_dynamic_range(self, low: float, high: float) -> None:
        self.range = (low, high)


class Layer:
    def __init__(self, name: str, kind: str, dtype: str = "float32") -> None:
        self.name, self.type = name, types.SimpleNamespace(name=kind)
        self.output, self.num_outputs = Tensor(f"{name}:0", dtype), 1
        self.precision: Any = None
        self.output_type: Any = None

    def get_output(self, position: int) -> Tensor:
        return self.output

    def set_output_type(self, position: int, kind: str) -> None:
        self.output_type = kind


class Network:
    num_inputs = 1

    def __init__(self, layers: List[Layer]) -> None:
        self.layers, self.num_layers = layers, len(layers)
        self.input = Tensor("image", "uint8")

    def get_layer(self, position: int) -> Layer:
        return self.layers[position]

    def get_input(self, position: int) -> Tensor:
        return self.input


TYPES: Dict[str, Any] = {"float16": "float16", "float32": "float32"}


def make_job(**changes: Any) -> Job:
    job = Job(
        runtime="tensorrt",
        model="m",
        plan="p",
        precision=Precision.INT8,
        route=Route.IMPLICIT,
        networks=("conv", "early"),
        half=("early",),
        ranges={"conv:0": 2.0},
        image_size=(SIZE, SIZE),
        max_batch=1,
        compute_capabilities=(),
        dla=None,
        workspace_mb=64,
        lean=False,
        timing_cache=None,
    )
    return dataclasses.replace(job, **changes)


def layers() -> Dict[str, Layer]:
    made = [
        Layer("early", "CONVOLUTION"),
        Layer("conv", "CONVOLUTION"),
        Layer("norm", "REDUCE"),
        Layer("norm_1", "ELEMENTWISE"),
        Layer("constant", "CONSTANT"),
        Layer("index", "GATHER", "int32"),
    ]
    return {layer.name: layer for layer in made}


@pytest.mark.parametrize(
    ("precision", "pins"),
    [
        (Precision.INT8, {"early": "float16", "norm": "float32", "norm_1": "float32"}),
        (Precision.FP16, {"norm": "float32", "norm_1": "float32"}),
        (Precision.FP32, {}),
    ],
)
def test_layers_outside_the_networks_are_pinned(precision: Precision, pins: Dict[str, str]):
    made = layers()
    network = Network(list(made.values()))
    building.pin_precisions(make_job(precision=precision), release("8.5.2.2", **TYPES), network)
    assert {name: layer.precision for name, layer in made.items() if layer.precision} == pins
    assert {name: layer.output_type for name, layer in made.items() if layer.output_type} == pins


def test_ranges_are_set_and_missing_tensors_are_reported():
    made = layers()
    network = Network(list(made.values()))
    building.set_dynamic_ranges(make_job(), release("8.5.2.2"), network)
    assert {name: layer.output.range for name, layer in made.items() if layer.output.range} == {
        "conv": (-2.0, 2.0)
    }
    with pytest.raises(BuildError, match="has no tensor 'ghost'"):
        building.set_dynamic_ranges(make_job(ranges={"ghost": 1.0}), release("8.5.2.2"), network)


class Config:
    def __init__(self) -> None:
        self.calls: List[Any] = []

    def __getattr__(self, name: str) -> Any:
        if name == "can_run_on_DLA":
            return lambda layer: layer.name != "early"
        return lambda *arguments: self.calls.append((name, *arguments))


@pytest.mark.parametrize(("version", "shares"), [("8.5.2.2", False), ("8.6.1", True), ("11.0.0", False)])
def test_settings_depend_on_the_release(version: str, shares: bool):
    trt = {
        "BuilderFlag": types.SimpleNamespace(TF32="TF32", GPU_FALLBACK="GPU_FALLBACK"),
        "PreviewFeature": types.SimpleNamespace(PROFILE_SHARING_0806="sharing"),
    }
    config, reader = Config(), object()
    building.configure(make_job(), release(version, **trt), Network([]), config, reader)
    assert ("clear_flag", "TF32") in config.calls
    assert (("set_preview_feature", "sharing", True) in config.calls) is shares
    assert (config.__dict__.get("int8_calibrator") is reader) is not version.startswith("11")


def test_dla_runs_supported_layers_except_pinned_ones():
    trt = {
        "BuilderFlag": types.SimpleNamespace(TF32="TF32", GPU_FALLBACK="GPU_FALLBACK"),
        "DeviceType": types.SimpleNamespace(DLA="DLA", GPU="GPU"),
    }
    made, config = layers(), Config()
    building.configure(make_job(dla=1), release("8.5.2.2", **trt), Network(list(made.values())), config, None)
    assert (config.__dict__["default_device_type"], config.__dict__["DLA_core"]) == ("DLA", 1)
    assert ("set_flag", "GPU_FALLBACK") in config.calls
    moved = {call[1].name for call in config.calls if call[0] == "set_device_type" and call[2] == "GPU"}
    assert moved == set(made) - {"conv"}


@pytest.mark.parametrize(
    ("route", "on_dla"), [(Route.TYPED, {"conv", "q", "dq"}), (Route.IMPLICIT, {"conv"})]
)
def test_quantization_pairs_go_to_the_dla_in_strongly_typed_networks(route: Route, on_dla):
    """A pair that stays on the GPU would part the convolution from its number format."""
    trt = {
        "BuilderFlag": types.SimpleNamespace(TF32="TF32", GPU_FALLBACK="GPU_FALLBACK"),
        "DeviceType": types.SimpleNamespace(DLA="DLA", GPU="GPU"),
    }
    pairs = {"q": Layer("q", "QUANTIZE"), "dq": Layer("dq", "DEQUANTIZE")}
    made, config = {**layers(), **pairs}, Config()
    config.can_run_on_DLA = lambda layer: layer.name in {"conv", "norm", *pairs}
    network = Network(list(made.values()))
    building.configure(make_job(dla=0, route=route), release("11.4.1.106", **trt), network, config, None)
    moved = {call[1].name for call in config.calls if call[0] == "set_device_type" and call[2] == "GPU"}
    assert moved == set(made) - on_dla
