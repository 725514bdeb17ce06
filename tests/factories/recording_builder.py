"""A simulated TensorRT builder for the real Polygraphy, with exactly the members of a release.

It parses the nodes of an ONNX file into layers, records its settings, and checks the rules whose violation
makes TensorRT crash or fail silently. Its plan is the JSON of the inspector for the chosen number formats.
"""

from __future__ import annotations

import enum
import importlib.machinery
import json
import struct
import types
import weakref
from typing import Any, Dict, Iterator, List, Optional, Set, Tuple

import numpy as np
import onnx

from factories.api_matrix import read_matrix
from factories.recording_tensorrt import Allocation, SimulatedMachine

MATRIX = read_matrix()
COLUMNS = {"8.5.2.2": "8.5.2", "8.6.1": "v8.6.1", "10.3.0": "v10.3.0", "11.1.0": "v11.1"}
CACHE_NUMBERS = {"8.5.2.2": 8502, "8.6.1": 8601, "10.3.0": 100300}
LAYER_TYPES = {
    "Cast": "CAST",
    "Transpose": "SHUFFLE",
    "Conv": "CONVOLUTION",
    "ConvTranspose": "DECONVOLUTION",
    "Relu": "ACTIVATION",
    "ReduceMean": "REDUCE",
    "QuantizeLinear": "QUANTIZE",
    "DequantizeLinear": "DEQUANTIZE",
}
DATA_TYPES = {"float32": "FLOAT", "float16": "HALF", "int8": "INT8", "int32": "INT32", "uint8": "UINT8"}
CALIBRATORS = {
    "IInt8EntropyCalibrator2": "EntropyCalibration2",
    "IInt8MinMaxCalibrator": "MinMaxCalibration",
    "IInt8LegacyCalibrator": "LegacyCalibration",
}


class Blob(bytes):
    """A memory block of TensorRT, which is a context manager."""

    def __enter__(self) -> Blob:
        return self

    def __exit__(self, *error: Any) -> None:
        pass


class SimulatedBuilder(SimulatedMachine):
    """A simulated machine whose TensorRT builds.

    Attributes:
        network: the network of the last build, with the pins of layers and the ranges of tensors.
        config: the configuration of the last build.
        fed: images that a calibrator copied to the GPU.
        fails: True for a builder that finds no kernel.
        accepts_calibrator: True for a builder that takes a calibrator for a network with uint8 input.
        needs_calibrator: True for a builder that has no INT8 for DLA without a calibrator.
    """

    def __init__(self, version: str) -> None:
        super().__init__(version)
        self.version, self.column = version, COLUMNS[version]
        self.fails = self.accepts_calibrator = self.needs_calibrator = False
        self.fed: List[np.ndarray] = []
        self.network: Any = None
        self.config: Any = None
        self.calibration_heap: Dict[int, np.ndarray] = {}
        self.tensorrt.__spec__ = importlib.machinery.ModuleSpec("tensorrt", None)
        self.driver.__dict__.update(
            mem_alloc=lambda size: Allocation(size, self.calibration_heap), memcpy_htod=self._copy
        )
        self._add_enumerations()
        self._add_bases()
        self._add_builder()

    @property
    def is_always_strong(self) -> bool:
        return int(self.version.split(".")[0]) >= 11

    def _copy(self, device: Allocation, host: np.ndarray) -> None:
        assert self.contexts_current, "no CUDA context is current"
        assert host.dtype == np.float32
        self.calibration_heap[int(device)][: host.nbytes] = host.reshape(-1).view(np.uint8)

    def members(self, owner: str) -> List[str]:
        return [name for name, releases in MATRIX.members[owner].items() if self.column in releases]

    def _add_enumerations(self) -> None:
        for owner, releases in MATRIX.members["tensorrt"].items():
            if self.column in releases and owner in MATRIX.members and MATRIX.is_enumeration(owner):
                made = enum.IntEnum(owner, [(name, i) for i, name in enumerate(self.members(owner))])
                setattr(self.tensorrt, owner, made)
        listed = [*self.members("LayerType"), "CONVOLUTION", "DECONVOLUTION", "ACTIVATION", "REDUCE"]
        self.tensorrt.LayerType = enum.IntEnum("LayerType", [(name, i) for i, name in enumerate(listed)])
        for name, member in DATA_TYPES.items():
            setattr(self.tensorrt, name, self.tensorrt.DataType[member])

    def _add_bases(self) -> None:
        def construct(instance: Any) -> None:
            instance.is_constructed = True

        # `is_constructed` records whether a subclass called this constructor.
        for name in ("ILogger", "IProgressMonitor", *CALIBRATORS):
            if self.column in MATRIX.members["tensorrt"].get(name, ()):
                base = type(name, (), {"__init__": construct, "is_constructed": False, "base_name": name})
                setattr(self.tensorrt, name, base)
        logger = type("Logger", (self.tensorrt.ILogger,), {"__init__": lambda self, severity: None})
        for position, name in enumerate(("INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE")):
            setattr(logger, name, position)
        self.tensorrt.Logger = logger

    def _add_builder(self) -> None:
        machine = self

        class Builder:
            def __init__(self, logger: Any) -> None:
                assert isinstance(logger, machine.tensorrt.ILogger)

            def create_network(self, flags: int = 0) -> Network:
                names = machine.tensorrt.NetworkDefinitionCreationFlag.__members__
                asked = {name for name, value in names.items() if flags >> value & 1}
                assert machine.version[0] != "8" or "EXPLICIT_BATCH" in asked, "ONNX needs explicit batch"
                return Network(machine, machine.is_always_strong or "STRONGLY_TYPED" in asked)

            def create_builder_config(self) -> Config:
                return Config(machine)

            def create_optimization_profile(self) -> Any:
                shapes: Dict[str, Tuple[Any, ...]] = {}
                return types.SimpleNamespace(
                    shapes=shapes, set_shape=lambda name, *three: shapes.update({name: three})
                )

            def build_serialized_network(self, network: Network, config: Config) -> Optional[Blob]:
                machine.network, machine.config = network, config
                has_failed = _lacks_a_kernel(machine, network, config) or _lacks_ranges(
                    machine, network, config
                )
                if machine.fails or has_failed:
                    return None
                return Blob(_build(machine, network, config))

        class Runtime:
            def __init__(self, logger: Any) -> None:
                assert isinstance(logger, machine.tensorrt.ILogger)
                self.DLA_core, self.num_DLA_cores = 0, machine.dla_cores

            def deserialize_cuda_engine(self, plan: bytes) -> Any:
                machine.check_thread()
                machine.loaded_on.append(self.DLA_core)
                inspector = types.SimpleNamespace(get_engine_information=lambda kind: bytes(plan).decode())
                return types.SimpleNamespace(create_engine_inspector=lambda: inspector)

        self.tensorrt.__dict__.update(
            Builder=Builder,
            Runtime=Runtime,
            OnnxParser=_Parser,
            init_libnvinfer_plugins=lambda logger, namespace: True,
        )


class Guarded:
    """An object of TensorRT; a member that the release lacks raises an AttributeError."""

    def __init__(self, machine: SimulatedBuilder, owner: str) -> None:
        self.__dict__.update(_machine=machine, _owner=owner)

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("_"):
            object.__getattribute__(self, "_check")(name)
        return object.__getattribute__(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_"):
            self._check(name)
        object.__setattr__(self, name, value)

    def _check(self, name: str) -> None:
        releases = MATRIX.members[self._owner].get(name)
        if releases is not None and self._machine.column not in releases:
            raise AttributeError(f"{self._owner} of {self._machine.version} has no {name}")


class Tensor(Guarded):
    def __init__(self, machine: SimulatedBuilder, name: str, kind: str, shape: Tuple[int, ...] = ()) -> None:
        super().__init__(machine, "ITensor")
        self.name, self.shape, self.is_shape_tensor = name, shape, False
        self.__dict__["dtype"] = getattr(machine.tensorrt, kind)
        self._amax: Optional[float] = None

    def set_dynamic_range(self, low: float, high: float) -> bool:
        assert low == -high < 0
        self._amax = high
        return True


class Layer(Guarded):
    def __init__(self, machine: SimulatedBuilder, node: onnx.NodeProto) -> None:
        super().__init__(machine, "ILayer")
        kinds, kind = machine.tensorrt.LayerType, LAYER_TYPES[node.op_type]
        self.name, self.num_outputs = node.name, 1
        self.type = kinds[kind] if kind in kinds.__members__ else kinds.IDENTITY
        self._sources = list(node.input)
        self._output = Tensor(machine, node.output[0], "int8" if kind == "QUANTIZE" else "float32")
        self.__dict__.update(precision=machine.tensorrt.float32, precision_is_set=False, pinned=None)
        self._output_type: Any = None

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "precision":
            self.__dict__.update(precision_is_set=True, pinned=value)

    def get_output(self, position: int) -> Tensor:
        assert position == 0
        return self._output

    def set_output_type(self, position: int, kind: Any) -> None:
        assert position == 0
        self._output_type = kind


class Network(Guarded):
    def __init__(self, machine: SimulatedBuilder, is_strong: bool) -> None:
        super().__init__(machine, "INetworkDefinition")
        self._layers: List[Layer] = []
        self._inputs: List[Tensor] = []
        self._is_strong = is_strong

    num_layers = property(lambda self: len(self._layers))
    num_inputs = property(lambda self: len(self._inputs))

    def get_layer(self, position: int) -> Layer:
        return self._layers[position]

    def get_input(self, position: int) -> Tensor:
        return self._inputs[position]

    def get_flag(self, flag: Any) -> bool:
        return flag.name == "STRONGLY_TYPED" and self._is_strong

    def __len__(self) -> int:
        return len(self._layers)

    def __iter__(self) -> Iterator[Layer]:
        return iter(self._layers)


class _Parser:
    num_errors = 0

    def __init__(self, network: Network, logger: Any) -> None:
        assert logger.is_constructed
        self._network = network

    def parse_from_file(self, path: str) -> bool:
        network, graph = self._network, onnx.load(path).graph
        for value in graph.input:
            sizes = tuple(size.dim_value or -1 for size in value.type.tensor_type.shape.dim)
            kind = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name
            network._inputs.append(Tensor(network._machine, value.name, kind, sizes))
        network._layers.extend(Layer(network._machine, node) for node in graph.node)
        return True


class Config(Guarded):
    """A configuration; like that of TensorRT, it keeps no reference to calibrators and monitors."""

    def __init__(self, machine: SimulatedBuilder) -> None:
        super().__init__(machine, "IBuilderConfig")
        self._flags: Set[str] = {"TF32"}
        self._profiles: List[Any] = []
        self._pools: Dict[str, int] = {}
        self._features: Set[str] = set()
        self._held: Dict[str, Any] = {}
        self._on_gpu: Set[str] = set()
        self._tactics: Optional[int] = None
        self.__dict__.update(DLA_core=-1, default_device_type=machine.tensorrt.DeviceType.GPU)

    def _hold(self, name: str, thing: Any) -> None:
        self._held[name] = weakref.ref(thing)

    def _get(self, name: str) -> Any:
        if name not in self._held:
            return None
        thing = self._held[name]()
        assert thing is not None, f"{name} was freed before the build"
        assert thing.is_constructed, f"{name} did not call the constructor of its base: TensorRT crashes"
        return thing

    int8_calibrator = property(
        lambda self: self._get("int8_calibrator"), lambda self, new: self._hold("int8_calibrator", new)
    )
    progress_monitor = property(
        lambda self: self._get("progress_monitor"), lambda self, new: self._hold("progress_monitor", new)
    )
    num_optimization_profiles = property(lambda self: len(self._profiles))

    def set_flag(self, flag: Any) -> None:
        self._flags.add(flag.name)

    def clear_flag(self, flag: Any) -> None:
        self._flags.discard(flag.name)

    def get_flag(self, flag: Any) -> bool:
        return flag.name in self._flags

    def add_optimization_profile(self, profile: Any) -> None:
        self._profiles.append(profile)

    def set_calibration_profile(self, profile: Any) -> None:
        self._held_profile = profile

    def set_memory_pool_limit(self, pool: Any, size: int) -> None:
        self._pools[pool.name] = size

    def get_memory_pool_limit(self, pool: Any) -> int:
        return self._pools.get(pool.name, 0)

    def set_tactic_sources(self, mask: int) -> None:
        self._tactics = mask

    def get_tactic_sources(self) -> int:
        return self._tactics or 0

    def set_preview_feature(self, feature: Any, is_on: bool) -> None:
        assert is_on
        self._features.add(feature.name)

    def get_preview_feature(self, feature: Any) -> bool:
        return feature.name in self._features

    def set_quantization_flag(self, flag: Any) -> None:
        self._features.add(flag.name)

    def get_quantization_flag(self, flag: Any) -> bool:
        return flag.name in self._features

    def create_timing_cache(self, kept: bytes) -> Any:
        self._timing_cache_read = bytes(kept)
        return types.SimpleNamespace(
            serialize=lambda: Blob(b"timings"), combine=lambda other, ignore_mismatch: True
        )

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> None:
        self._timing_cache = cache

    def get_timing_cache(self) -> Any:
        return self._timing_cache

    def can_run_on_DLA(self, layer: Layer) -> bool:  # noqa: N802 - TensorRT's name
        return layer.name != "relu"

    def set_device_type(self, layer: Layer, device: Any) -> None:
        assert device.name == "GPU"
        self._on_gpu.add(layer.name)


def _lacks_a_kernel(machine: SimulatedBuilder, network: Network, config: Config) -> bool:
    """Return True if a transposed convolution has no kernel, because the tactics exclude cuDNN."""
    if machine.is_always_strong or config._tactics is None:
        return False
    has_cudnn = config._tactics >> machine.tensorrt.TacticSource.CUDNN & 1
    return not has_cudnn and any(layer.type.name == "DECONVOLUTION" for layer in network)


def _lacks_ranges(machine: SimulatedBuilder, network: Network, config: Config) -> bool:
    """Return True if a calibrator is missing for DLA, or meets an input without a scale."""
    if network._is_strong:
        return False
    is_dla = config.default_device_type.name == "DLA"
    if config.int8_calibrator is None:
        return machine.needs_calibrator and is_dla and "INT8" in config._flags
    has_uint8 = any(tensor.dtype.name == "UINT8" for tensor in network._inputs)
    return has_uint8 and not (is_dla and machine.accepts_calibrator)


def _build(machine: SimulatedBuilder, network: Network, config: Config) -> bytes:
    """Choose a number format for each layer and return the inspector's JSON."""
    (profile,) = config._profiles
    assert set(profile.shapes) == {tensor.name for tensor in network._inputs}
    if network._is_strong:
        assert not config._flags & {"FP16", "INT8", "OBEY_PRECISION_CONSTRAINTS"}, "strongly typed"
        assert not any(layer.pinned for layer in network), "strongly typed"
    if "progress_monitor" in config._held:
        monitor = config.progress_monitor
        monitor.phase_start("Building Engine", None, 2)
        assert all(monitor.step_complete("Building Engine", step) for step in range(2))
        monitor.phase_finish("Building Engine")
    is_explicit = any(layer.type.name == "DEQUANTIZE" for layer in network)
    ranges: Dict[str, float] = {}
    if "INT8" in config._flags and not is_explicit:
        ranges = _calibrate(machine, network, config)
        tensors = [*network._inputs, *(layer._output for layer in network)]
        given = {tensor.name: tensor._amax for tensor in tensors if tensor._amax is not None}
        assert not ranges or set(ranges) == set(given), "cache and ranges have different tensors"
        assert all(abs(amax / given[name] - 1) < 1e-6 for name, amax in ranges.items()), (
            "cache and ranges differ"
        )
        ranges.update(given)
    pairs = {layer._output.name for layer in network if layer.type.name == "DEQUANTIZE"}
    chosen = [_choose(layer, network, config, ranges, pairs) for layer in network]
    return json.dumps({"Layers": chosen}).encode()


def _choose(
    layer: Layer, network: Network, config: Config, ranges: Dict[str, float], pairs: Set[str]
) -> Dict[str, Any]:
    source, pinned = layer._sources[0], layer.pinned
    assert pinned is None or "OBEY_PRECISION_CONSTRAINTS" in config._flags, "a pin that TensorRT ignores"
    assert pinned is None or layer._output_type is pinned, "the output type differs from the precision"
    if pinned is not None:
        precision = {"FLOAT": "FP32", "HALF": "FP16"}[pinned.name]
    elif source in pairs or ("INT8" in config._flags and {source, layer._output.name} <= set(ranges)):
        precision = "Int8"
    else:
        precision = "Half" if "FP16" in config._flags else "FP32"
    tensor = {"Name": source, "Format/Datatype": precision}
    return {"Name": layer.name, "LayerType": layer.type.name, "Inputs": [tensor], "Outputs": []}


def _calibrate(machine: SimulatedBuilder, network: Network, config: Config) -> Dict[str, float]:
    """Return the ranges of the calibrator's cache; for an unsuitable cache, silently request data."""
    calibrator = config.int8_calibrator
    if calibrator is None:
        return {}
    assert calibrator.get_batch_size() == 1
    title = f"TRT-{CACHE_NUMBERS[machine.version]}-{CALIBRATORS[calibrator.base_name]}"
    header, *entries = (calibrator.read_calibration_cache() or b"").decode().splitlines() or [""]
    if header == title:
        return {name: _amax(value) for name, value in (entry.rsplit(": ", 1) for entry in entries)}
    ((_, shape, _),) = (profile.shapes["image"] for profile in config._profiles)
    while True:
        batch = calibrator.get_batch(["image"])
        if not batch:
            break
        memory = machine.calibration_heap[batch[0]]
        machine.fed.append(memory.view(np.float32).reshape(shape).copy())
    largest = max((float(np.abs(image).max()) for image in machine.fed), default=0.0)
    if largest:
        assert machine.contexts_current, "no CUDA context is current"
        line = f"image: {struct.pack('>f', largest / 127).hex()}"
        calibrator.write_calibration_cache(memoryview(f"{title}\n{line}\n".encode()))
    return {}


def _amax(written: str) -> float:
    return float(struct.unpack(">f", bytes.fromhex(written))[0]) * 127
