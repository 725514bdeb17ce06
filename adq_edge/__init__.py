"""adq-edge: trained visual anomaly models as measured INT8 and FP16 engines.

The functions have the names of the command-line verbs:

    import adq_edge

    bundle = adq_edge.export("checkpoints/stfpm-unified.pt")
    built = adq_edge.build(bundle.path, precision="int8", calib="mse")
    print(adq_edge.evaluate(built.path).image_auroc)
    with adq_edge.load_engine(built.path) as engine:
        for prediction in adq_edge.predict(engine, "part.png"):
            print(prediction.verdict, prediction.score)

    adq_edge.fit(built.path, good={"bolt": "images/good"})  # learns a product from its good images
    with adq_edge.load_inspector(built.path, false_rejects=0.005) as inspector:
        inspection = inspector.inspect("part.png")  # or a uint8 [H, W, 3] array
        print(inspection.verdict, inspection.product, inspection.p_value, inspection.regions)

Importing this package imports neither torch nor a runtime: each function is imported when first used. Import
the package before `onnxruntime`, because it turns off the telemetry of ONNX Runtime.
"""

from __future__ import annotations

from adq_edge.core.start import LoadingCommand

with LoadingCommand():
    import importlib
    import os
    from typing import TYPE_CHECKING, Any, List

    from adq_edge.core.limits import thread_variables
    from adq_edge.core.version import __version__ as __version__

# ONNX Runtime 1.29 and later reports usage with a machine identifier. It reads this variable when loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
# In a container with a CPU limit, numpy, OpenCV and torch would start a thread for each core of the machine.
os.environ.update(thread_variables())

if TYPE_CHECKING:
    from adq_edge.artifacts.bundle import open_bundle as open_bundle
    from adq_edge.benchmark.bench import bench as bench
    from adq_edge.builders.build import build as build
    from adq_edge.calibration.calibrate import calibrate as calibrate
    from adq_edge.core.errors import AdqError as AdqError
    from adq_edge.core.options import TensorRTOptions as TensorRTOptions
    from adq_edge.datasets.dataset import read_dataset as read_dataset
    from adq_edge.datasets.synthetic import write_synthetic as write_synthetic
    from adq_edge.decision.fit import fit as fit
    from adq_edge.decision.inspector import load_inspector as load_inspector
    from adq_edge.evaluation.analyze import analyze as analyze
    from adq_edge.evaluation.compare import compare as compare
    from adq_edge.evaluation.evaluate import evaluate as evaluate
    from adq_edge.evaluation.overlays import draw_inspection as draw_inspection
    from adq_edge.evaluation.predict import predict as predict
    from adq_edge.evaluation.stress import stress as stress
    from adq_edge.hardware.doctor import diagnose as diagnose
    from adq_edge.onnx_export.export import export as export
    from adq_edge.onnx_import.import_model import import_model as import_model
    from adq_edge.onnx_import.options import ImportOptions as ImportOptions
    from adq_edge.qat.train import train_quantized as train_quantized
    from adq_edge.roofline.estimate import estimate as estimate
    from adq_edge.runtimes.registry import load_engine as load_engine
    from adq_edge.study.find_fast import find_fast as find_fast
    from adq_edge.training.train import train as train
    from adq_edge.training.train import train_each as train_each

_HOMES = {
    "AdqError": "adq_edge.core.errors",
    "ImportOptions": "adq_edge.onnx_import.options",
    "TensorRTOptions": "adq_edge.core.options",
    "analyze": "adq_edge.evaluation.analyze",
    "bench": "adq_edge.benchmark.bench",
    "build": "adq_edge.builders.build",
    "calibrate": "adq_edge.calibration.calibrate",
    "compare": "adq_edge.evaluation.compare",
    "diagnose": "adq_edge.hardware.doctor",
    "draw_inspection": "adq_edge.evaluation.overlays",
    "estimate": "adq_edge.roofline.estimate",
    "evaluate": "adq_edge.evaluation.evaluate",
    "export": "adq_edge.onnx_export.export",
    "find_fast": "adq_edge.study.find_fast",
    "fit": "adq_edge.decision.fit",
    "import_model": "adq_edge.onnx_import.import_model",
    "load_engine": "adq_edge.runtimes.registry",
    "load_inspector": "adq_edge.decision.inspector",
    "open_bundle": "adq_edge.artifacts.bundle",
    "predict": "adq_edge.evaluation.predict",
    "read_dataset": "adq_edge.datasets.dataset",
    "stress": "adq_edge.evaluation.stress",
    "train": "adq_edge.training.train",
    "train_each": "adq_edge.training.train",
    "train_quantized": "adq_edge.qat.train",
    "write_synthetic": "adq_edge.datasets.synthetic",
}

__all__ = sorted(_HOMES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'adq_edge' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> List[str]:
    return [*globals(), *_HOMES]
