"""The contenders of `quality.py`: the float model, adq-edge's INT8 engines, and other quantizers.

All of them start from the same ONNX file. The other quantizers read the first calibration images of the
source `images`, one at a time, as adq-edge does.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import itertools
import logging
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import onnx
import onnxruntime
import openvino
from onnxruntime.quantization import (
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)

from adq_edge.artifacts.bundle import INPUT, MAP_OUTPUT, SCORE_OUTPUT, Bundle
from adq_edge.calibration.calibrate import calibrate_bundle
from adq_edge.calibration.calibrated_model import CalibratedModel, calibrate_model
from adq_edge.calibration.sources import (
    IMAGES,
    RANDOM_NORMAL,
    SYNTHETIC_DEFECTS,
    CalibrationSource,
    make_source,
)
from adq_edge.core.options import DEFAULT_CALIBRATOR, Target
from adq_edge.quantization.float_model import FloatModel
from adq_edge.quantization.passes.float_weights import keep_float_weights
from adq_edge.quantization.passes.fp16_weights import store_weights_as_float16
from adq_edge.quantization.passes.frame import run_passes
from adq_edge.quantization.passes.leaky_relu import split_leaky_relus
from adq_edge.quantization.passes.wide_normalization import widen_normalization
from adq_edge.quantization.qdq import quantize

Run = Callable[[np.ndarray], Tuple[np.ndarray, float]]
"""Returns the float32 map `[h, w]` and the score of a uint8 image `[H, W, 3]`."""

TARGETS = (Target.X86, Target.TENSORRT)
CALIBRATORS = (DEFAULT_CALIBRATOR, "mse", "minmax", "percentile", "entropy")
QUICK_CALIBRATORS = (DEFAULT_CALIBRATOR, "minmax")
SOURCES = (IMAGES, SYNTHETIC_DEFECTS, f"{IMAGES},{SYNTHETIC_DEFECTS}", RANDOM_NORMAL)
QUICK_SOURCES = (IMAGES, RANDOM_NORMAL)

HISTOGRAM_IMAGES = 64
"""Images for ONNX Runtime's entropy and percentile calibrators, which keep all activations in memory."""
OUR_OPERATORS = ("Conv", "Add", "MaxPool")
PERCENTILE = 99.99

_ERRORS_ONLY = 3


class Contender(NamedTuple):
    """One row of the table.

    Attributes:
        maker: project that made the engine.
        calibrator: the calibrator; the precision if none was used.
        source: calibration source; empty without calibration.
        target: the arithmetic, or the runtime.
        images: number of calibration images.
        seconds: build time by step.
        run: the engine.
    """

    maker: str
    calibrator: str
    source: str
    target: str
    images: int
    seconds: Dict[str, float]
    run: Run


@dataclasses.dataclass(frozen=True)
class ArtifactCache:
    """Inputs of the contenders.

    Attributes:
        bundle: a copy of the model's bundle, without ranges.
        data: the dataset; its training images are the calibration images.
        samples: maximum number of calibration images.
        threads: CPU threads.
        quick: True for a few contenders only.
    """

    bundle: Bundle
    data: Path
    samples: int
    threads: int
    quick: bool

    def source(self, spec: str, samples: Optional[int] = None) -> CalibrationSource:
        """Return a calibration source of at most `samples` images."""
        return make_source(spec, self.data, self.samples if samples is None else samples)

    def model(self) -> onnx.ModelProto:
        """Return the float model."""
        return onnx.load(str(self.bundle.model))


class Stopwatch:
    """Sums of seconds by step."""

    def __init__(self) -> None:
        self.seconds: Dict[str, float] = {}

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time a `with` block."""
        started = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started


def onnxruntime_engine(model: onnx.ModelProto, target: Target, threads: int) -> Run:
    """Open a model in ONNX Runtime: with integer kernels for x86, in float32 between Q and DQ for TensorRT.

    The latter emulates TensorRT's INT8: the same rounding, and sums that are exact within float32.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = _ERRORS_ONLY
    if target is Target.TENSORRT:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )

    def run(image: np.ndarray) -> Tuple[np.ndarray, float]:
        maps, scores = session.run([MAP_OUTPUT, SCORE_OUTPUT], {INPUT: image[None]})
        return maps[0], float(scores[0])

    return run


def openvino_engine(model: openvino.Model, threads: int) -> Run:
    """Compile a model in OpenVINO; operators that are not INT8 compute in float32, never in bfloat16."""
    properties = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": str(threads)}
    request = openvino.Core().compile_model(model, "CPU", properties).create_infer_request()

    def run(image: np.ndarray) -> Tuple[np.ndarray, float]:
        request.infer([image[None]])
        maps, scores = (request.get_tensor(name).data for name in (MAP_OUTPUT, SCORE_OUTPUT))
        return maps[0].copy(), float(scores[0])

    return run


def contenders(workshop: ArtifactCache) -> Iterator[Contender]:
    """Yield the contenders in the order of the table; each is built on demand."""
    threads = workshop.threads
    yield Contender(
        "float", "FP32", "", "-", 0, {}, onnxruntime_engine(workshop.model(), Target.X86, threads)
    )
    watch = Stopwatch()
    with watch.step("casting"):
        half = run_passes(workshop.model(), (store_weights_as_float16,))
    run = onnxruntime_engine(half, Target.X86, threads)
    yield Contender("float", "FP16 weights", "", "-", 0, watch.seconds, run)
    for spec in QUICK_SOURCES if workshop.quick else SOURCES:
        yield from ours(workshop, spec)
    yield from onnxruntime_peers(workshop)
    if not workshop.quick:
        yield from nncf_peers(workshop)


def ours(workshop: ArtifactCache, spec: str) -> Iterator[Contender]:
    """Yield adq-edge's engines of one source: one pass for all calibrators, weights rounded once."""
    calibrators = QUICK_CALIBRATORS if workshop.quick else CALIBRATORS
    source, bundle, threads = workshop.source(spec), workshop.bundle, workshop.threads
    shared, model = Stopwatch(), FloatModel.load(workshop.bundle)
    with shared.step(f"calibration of {len(calibrators)} calibrators"):
        calibrate_bundle(bundle, model, calibrators, source, threads=threads)
    with shared.step("rounding weights"):
        calibrate_model(bundle, model, calibrators[0], source, threads=threads)
    for calibrator in calibrators:
        prepared = calibrate_model(bundle, model, calibrator, source, threads=threads)
        for target in TARGETS:
            watch = Stopwatch()
            with watch.step("inserting Q and DQ"):
                graph = _quantize(prepared, target)
            is_default = (calibrator, spec, target) == (DEFAULT_CALIBRATOR, IMAGES, Target.X86)
            yield Contender(
                "adq-edge, its default" if is_default else "adq-edge",
                calibrator,
                spec,
                target.value,
                len(source),
                {**shared.seconds, **watch.seconds},
                onnxruntime_engine(graph, target, threads),
            )


def _quantize(prepared: CalibratedModel, target: Target) -> onnx.ModelProto:
    """Return the model that `build` writes for x86, or the emulated one for TensorRT."""
    model, ranges, rounding = prepared.float_model, prepared.ranges.tensors, prepared.rounded_weights
    quantized = quantize(model, ranges, target, rounding=rounding)
    if target is not Target.X86:
        return quantized
    return run_passes(quantized, (widen_normalization, keep_float_weights, split_leaky_relus))


class _Reader:
    """Feeds images to ONNX Runtime."""

    def __init__(self, images: Iterator[np.ndarray]) -> None:
        self._images = images

    def get_next(self) -> Optional[Dict[str, np.ndarray]]:
        """Return the next image, None after the last."""
        image = next(self._images, None)
        return None if image is None else {INPUT: image[None]}


def onnxruntime_peers(workshop: ArtifactCache) -> Iterator[Contender]:
    """Quantize with onnxruntime.quantization and its calibrators."""
    logging.getLogger().setLevel(logging.ERROR)  # it advises to pre-process; the export has done that
    methods = ["MinMax"] if workshop.quick else ["MinMax", "Entropy", "Percentile"]
    for method, target in itertools.product(methods, TARGETS):
        yield _onnxruntime_peer(workshop, method, target, OUR_OPERATORS)
    if not workshop.quick:
        yield _onnxruntime_peer(workshop, "MinMax", Target.X86, ())


def _onnxruntime_peer(
    workshop: ArtifactCache, method: str, target: Target, operators: Sequence[str]
) -> Contender:
    """Quantize with one calibrator; without `operators` ONNX Runtime chooses them."""
    limit = workshop.samples if method == "MinMax" else min(HISTOGRAM_IMAGES, workshop.samples)
    source = workshop.source(IMAGES, limit)
    symmetric = target is Target.TENSORRT
    extra: Dict[str, Any] = {"ActivationSymmetric": symmetric}
    if method == "Percentile":
        extra["CalibPercentile"] = PERCENTILE
    watch = Stopwatch()
    with tempfile.TemporaryDirectory() as folder, watch.step("calibration and quantization"):
        path = Path(folder) / "quantized.onnx"
        quantize_static(
            workshop.bundle.model,
            path,
            _Reader(source.images(workshop.bundle.manifest.image_size)),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(operators) or None,
            per_channel=True,
            activation_type=QuantType.QInt8 if symmetric else QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=getattr(CalibrationMethod, method),
            extra_options=extra,
        )
        model = onnx.load(str(path))
    name = f"{method} {PERCENTILE}" if method == "Percentile" else method
    return Contender(
        "onnxruntime.quantization",
        name if operators else f"{name}, its default operators",
        IMAGES,
        target.value,
        len(source),
        watch.seconds,
        onnxruntime_engine(model, target, workshop.threads),
    )


def nncf_peers(workshop: ArtifactCache) -> Iterator[Contender]:
    """Quantize with NNCF's default and mixed presets; run in OpenVINO."""
    try:
        nncf: Any = importlib.import_module("nncf")
    except ImportError as error:
        print(f"Skipping NNCF: {error}")
        return
    nncf.set_log_level(logging.ERROR)
    source = workshop.source(IMAGES)
    for name, preset in (("default preset", None), ("mixed preset", nncf.QuantizationPreset.MIXED)):
        watch = Stopwatch()
        with watch.step("calibration and quantization"):
            images: List[np.ndarray] = list(source.images(workshop.bundle.manifest.image_size))
            quantized = nncf.quantize(
                openvino.Core().read_model(str(workshop.bundle.model)),
                nncf.Dataset(images, lambda image: image[None]),
                preset=preset,
                subset_size=len(images),
            )
        run = openvino_engine(quantized, workshop.threads)
        yield Contender("NNCF", name, IMAGES, "x86, OpenVINO", len(source), watch.seconds, run)


def nncf_version() -> Dict[str, str]:
    """Return the version of NNCF for the list of packages; empty if it is not installed."""
    with contextlib.suppress(metadata.PackageNotFoundError):
        return {"nncf": metadata.version("nncf")}
    return {}
