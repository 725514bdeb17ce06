"""Import one export, and measure the bundle, its engines and the other tools' INT8 models."""

from __future__ import annotations

import dataclasses
import logging
import os
import traceback
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

import numpy as np

from adq_edge.artifacts.bundle import Bundle, open_bundle
from adq_edge.builders.build import build
from adq_edge.calibration.sources import IMAGES, make_source
from adq_edge.core.errors import AdqError
from adq_edge.core.images.imaging import read_image
from adq_edge.datasets.dataset import Category, read_dataset
from adq_edge.metrics.quality import image_auroc
from adq_edge.metrics.snr import SnrMeter
from adq_edge.onnx_import.import_model import import_model
from adq_edge.runtimes.base import Engine
from adq_edge.runtimes.registry import load_engine
from benchmarks.contenders import openvino_engine
from benchmarks.foreign.compilation import compile_precisions
from benchmarks.foreign.exports import Export
from benchmarks.foreign.table import RUNTIMES
from benchmarks.quality import TestImage, load_tests
from benchmarks.timing import times

PRECISIONS = ("fp32", "int8")
_REFERENCES = 8
_LONGEST_LINE = 400

Score = Callable[[np.ndarray], Tuple[np.ndarray, float]]
"""Returns the map and the score of a uint8 image `[H, W, 3]`."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """How exports are measured.

    Attributes:
        data: dataset with the categories.
        samples: maximum number of calibration images.
        limit: maximum number of test images of a category; None for all.
        rounds: rounds of the interleaved timing; 0 for no times.
        compute_capability: GPU that TensorRT-RTX compiles for; None for no compilation.
        threads: CPU threads of each engine.
        peers: measure NNCF and the tool's own INT8 export too.
    """

    data: Path
    samples: int
    limit: Optional[int]
    rounds: int
    compute_capability: Optional[str]
    threads: int
    peers: bool = True


def measure(export: Export, settings: Settings, work: Path) -> Dict[str, Any]:
    """Import an export and measure it; a step that fails gives its error in place of its figures.

    Args:
        export: the model of another tool.
        settings: how it is measured.
        work: a folder for bundle and engines.
    """
    found: Dict[str, Any] = {"kind": export.kind, "category": export.category, "about": export.about()}
    if not export.model.exists():
        return {**found, "not_exported": export.failure or "no export"}
    try:
        bundle = import_model(export.model, work / "bundle", data=settings.data / export.category)
    except AdqError as error:
        return {**found, "refused": _line(error).replace(f"{export.model}: ", "")}
    except Exception as error:
        traceback.print_exc()
        return {**found, "crashed": _line(error)}
    parity = bundle.manifest.parity
    found.update(
        arch=bundle.manifest.arch,
        origin=bundle.manifest.origin,
        own_parity={**dataclasses.asdict(parity), "source": export.category},
    )
    engines, found["failures"] = _build_engines(bundle, export.category, settings, work)
    found["parity"] = {
        runtime: compare_with_tool(engine, export.reference())
        for (precision, runtime), engine in engines.items()
        if precision == "fp32"
    }
    runs = {f"{precision}_{runtime}": _scorer(engine) for (precision, runtime), engine in engines.items()}
    if settings.peers:
        runs.update(_peers(bundle, export, settings, found["failures"]))
    tests = load_tests(
        read_dataset(settings.data, [export.category]), bundle.manifest.image_size, settings.limit
    )
    found["images"] = len(tests)
    found["image_auroc"], maps = {}, {}
    for name, run in runs.items():
        found["image_auroc"][name], maps[name] = judge(run, tests)
    found["map_snr_db"] = {
        f"int8_{runtime}": _map_snr_db(maps[f"fp32_{runtime}"], maps[f"int8_{runtime}"])
        for runtime in RUNTIMES
        if {f"fp32_{runtime}", f"int8_{runtime}"} <= set(maps)
    }
    found["image_auroc"]["original"] = original_auroc(export, settings)
    if settings.rounds:
        found.update(_time(runs, tests[0].image, settings.rounds))
    if settings.compute_capability is not None:
        found["compiled"] = compile_precisions(
            bundle, settings.data / export.category / "train" / "good", settings
        )
    for engine in engines.values():
        engine.close()
    return found


def _time(runs: Mapping[str, Score], image: np.ndarray, rounds: int) -> Dict[str, Any]:
    """Return the median times in ms, one round of all engines after the other, and the load beside them."""
    before = os.getloadavg()[0]
    taken = times(dict(runs), image, rounds)
    return {
        "p50_ms": {name: float(np.median(values)) for name, values in taken.items()},
        "load_average": max(before, os.getloadavg()[0]),
    }


def measure_times(export: Export, settings: Settings, work: Path, before: Dict[str, Any]) -> Dict[str, Any]:
    """Time the engines in `work` and the peers, and add times and the peers' quality to earlier figures."""
    if "image_auroc" not in before:
        return before
    bundle = _bundle(export, settings, work)
    tests = load_tests(
        read_dataset(settings.data, [export.category]), bundle.manifest.image_size, settings.limit
    )
    engines, failures = _build_engines(bundle, export.category, settings, work, reuse=True)
    runs = {f"{precision}_{runtime}": _scorer(engine) for (precision, runtime), engine in engines.items()}
    peers = _peers(bundle, export, settings, failures) if settings.peers else {}
    quality = {**before["image_auroc"], **{name: judge(run, tests)[0] for name, run in peers.items()}}
    taken = _time({**runs, **peers}, tests[0].image, settings.rounds)
    for engine in engines.values():
        engine.close()
    return {**before, "failures": {**before["failures"], **failures}, "image_auroc": quality, **taken}


def measure_compilation(
    export: Export, settings: Settings, work: Path, before: Dict[str, Any]
) -> Dict[str, Any]:
    """Compile the bundle of an export, and add the answers to what was measured before."""
    if settings.compute_capability is None or "image_auroc" not in before:
        return before
    images = settings.data / export.category / "train" / "good"
    return {**before, "compiled": compile_precisions(_bundle(export, settings, work), images, settings)}


def _bundle(export: Export, settings: Settings, work: Path) -> Bundle:
    """Return the bundle in `work`; import the export if there is none."""
    folder = work / "bundle"
    if folder.exists():
        return open_bundle(folder)
    return import_model(export.model, folder, data=settings.data / export.category)


def _line(error: BaseException) -> str:
    name = "" if isinstance(error, AdqError) else f"{type(error).__name__}: "
    return f"{name}{error}".replace("\n", " ")[:_LONGEST_LINE]


def _build_engines(
    bundle: Bundle, category: str, settings: Settings, work: Path, *, reuse: bool = False
) -> Tuple[Dict[Tuple[str, str], Engine], Dict[str, str]]:
    """Build each precision for each CPU runtime, as a user does with the defaults.

    With `reuse`, engines that are in `work` are taken.
    """
    engines: Dict[Tuple[str, str], Engine] = {}
    failures: Dict[str, str] = {}
    for precision in PRECISIONS:
        for runtime in RUNTIMES:
            path = work / f"{runtime}-{precision}.onnx"
            try:
                if not (reuse and path.exists()):
                    build(
                        bundle.path,
                        path,
                        precision=precision,
                        calib_data=settings.data / category / "train" / "good",
                        samples=settings.samples,
                        device="cpu",
                        runtime=runtime,
                    )
                engines[precision, runtime] = load_engine(path, threads=settings.threads)
            except Exception as error:
                traceback.print_exc()
                failures[f"{precision}_{runtime}"] = _line(error)
    return engines, failures


def _scorer(engine: Engine) -> Score:
    def run(image: np.ndarray) -> Tuple[np.ndarray, float]:
        output = engine.run(image[None])
        return output.arrays[0][0], float(output.arrays[1][0])

    return run


def compare_with_tool(engine: Engine, reference: Mapping[str, np.ndarray]) -> Optional[Dict[str, float]]:
    """Return the largest differences from the tool's own raw map and score, relative to the largest value.

    None without a reference. Both get the image in the size of the model, so the resize is no part of it.
    """
    run = _scorer(engine)
    differences: Dict[str, List[Tuple[float, float]]] = {"map": [], "score": []}
    for i in range(_REFERENCES):
        if f"image_{i}" not in reference:
            return None
        anomaly_map, score = run(reference[f"image_{i}"])
        expected_map = reference.get(f"sized_raw_anomaly_map_{i}")
        if expected_map is not None and expected_map.size == anomaly_map.size:
            wanted = expected_map.reshape(anomaly_map.shape)
            differences["map"].append(
                (float(np.abs(anomaly_map - wanted).max()), float(np.abs(wanted).max()))
            )
        expected = reference.get(f"sized_raw_pred_score_{i}", expected_map)
        if expected is not None:
            differences["score"].append((abs(score - float(expected.max())), abs(float(expected.max()))))
    return {
        name: max(each for each, _ in values) / max(1e-30, *(largest for _, largest in values))
        for name, values in differences.items()
        if values
    }


def judge(run: Score, tests: List[TestImage]) -> Tuple[Optional[float], List[np.ndarray]]:
    """Return the image AUROC from 0 to 1, None if undefined or a score is not finite, and the maps."""
    answers = [run(test.image) for test in tests]
    scores = np.array([score for _, score in answers])
    labels = np.array([test.anomalous for test in tests])
    quality = image_auroc(labels, scores) if np.isfinite(scores).all() else None
    return quality, [anomaly_map for anomaly_map, _ in answers]


def _map_snr_db(references: List[np.ndarray], others: List[np.ndarray]) -> Optional[float]:
    """Return the SNR of maps in dB, less the mean of the reference; None if a map is not finite."""
    if not all(np.isfinite(each).all() for each in (*references, *others)):
        return None
    meter = SnrMeter()
    mean = np.mean([each.mean() for each in references])
    for reference, other in zip(references, others):
        meter.update(reference - mean, other - mean)
    found = meter.snr_db()
    return found if np.isfinite(found) else None


def original_auroc(export: Export, settings: Settings) -> Optional[float]:
    """Return the image AUROC of the original file in ONNX Runtime on images of their own size."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = settings.threads, 3
    session = onnxruntime.InferenceSession(str(export.model), options, providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0]
    names = [output.name for output in session.get_outputs()]
    chosen = "pred_score" if "pred_score" in names else names[0]

    def run(image: np.ndarray) -> float:
        fed = export.prepare(image)
        batch = given.shape[0]
        fed = np.repeat(fed, batch, 0) if isinstance(batch, int) else fed
        return float(np.ravel(session.run([chosen], {given.name: fed})[0])[0])

    return _auroc_of_files(run, read_dataset(settings.data, [export.category]).categories[0], settings.limit)


def _auroc_of_files(
    run: Callable[[np.ndarray], float], category: Category, limit: Optional[int]
) -> Optional[float]:
    samples = [
        category.test[i] for i in np.sort(np.random.default_rng(0).permutation(len(category.test))[:limit])
    ]
    scores = np.array([run(read_image(sample.path)) for sample in samples])
    labels = np.array([sample.is_anomalous for sample in samples])
    return image_auroc(labels, scores) if np.isfinite(scores).all() else None


def _peers(bundle: Bundle, export: Export, settings: Settings, failures: Dict[str, str]) -> Dict[str, Score]:
    """Return NNCF's INT8 model of the bundle's graph, and the tool's own INT8 export."""
    found: Dict[str, Score] = {}
    for name, make in (("nncf", _nncf), ("tool_int8", _tool_int8)):
        try:
            run = make(bundle, export, settings)
        except Exception as error:
            failures[name] = _line(error)
            continue
        if run is not None:
            found[name] = run
    return found


def _nncf(bundle: Bundle, export: Export, settings: Settings) -> Optional[Score]:
    import nncf
    import openvino

    nncf.set_log_level(logging.ERROR)
    source = make_source(IMAGES, settings.data / export.category / "train" / "good", settings.samples)
    images = list(source.images(bundle.manifest.image_size))
    quantized = nncf.quantize(
        openvino.Core().read_model(str(bundle.model)),
        nncf.Dataset(images, lambda image: image[None]),
        subset_size=len(images),
    )
    return openvino_engine(quantized, settings.threads)


def _tool_int8(bundle: Bundle, export: Export, settings: Settings) -> Optional[Score]:
    if not export.int8_model.exists():
        return None
    import openvino

    properties = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": str(settings.threads)}
    compiled = openvino.Core().compile_model(str(export.int8_model), "CPU", properties)
    request = compiled.create_infer_request()

    def run(image: np.ndarray) -> Tuple[np.ndarray, float]:
        request.infer([np.ascontiguousarray(np.float32(image).transpose(2, 0, 1)[None] / 255)])
        return np.zeros(0), float(np.ravel(request.get_tensor("pred_score").data)[0])

    return run
