"""adq-edge: trained unified anomaly models as measured INT8/FP16 engines.

The verbs of the command line, under the same names:

    import adq_edge

    bundle = adq_edge.export("checkpoints/stfpm-unified.pt")
    built = adq_edge.build(bundle.path, precision="int8", calib="mse")
    print(adq_edge.evaluate(built.path).image_auroc)
    with adq_edge.load_engine(built.path) as engine:
        for prediction in adq_edge.predict(engine, ["part.png"]):
            print(prediction.score, prediction.anomalous)

Importing this package imports neither torch nor a runtime: each function is fetched when first used. Nothing
is reported to anyone: import it before `onnxruntime`, whose telemetry it turns off.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any, List

__version__ = "0.1.0"

# From 1.29 on ONNX Runtime gives the machine an identifier and reports what runs. It reads this when loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from adq_edge.analysis import analyze as analyze
    from adq_edge.benchmark.bench import bench as bench
    from adq_edge.building import build as build
    from adq_edge.bundle import open_bundle as open_bundle
    from adq_edge.calibrating import calibrate as calibrate
    from adq_edge.comparison import compare as compare
    from adq_edge.datasets.layout import read_dataset as read_dataset
    from adq_edge.doctor import diagnose as diagnose
    from adq_edge.errors import AdqError as AdqError
    from adq_edge.estimating.estimate import estimate as estimate
    from adq_edge.evaluation import evaluate as evaluate
    from adq_edge.exporting import export as export
    from adq_edge.makers.tensorrt_options import TensorRTOptions as TensorRTOptions
    from adq_edge.prediction import predict as predict
    from adq_edge.runtimes.registry import load_engine as load_engine
    from adq_edge.training.loop import train as train
    from adq_edge.training.loop import train_each as train_each
    from adq_edge.training.qat.loop import train_quantized as train_quantized

_HOMES = {
    "AdqError": "adq_edge.errors",
    "TensorRTOptions": "adq_edge.makers.tensorrt_options",
    "analyze": "adq_edge.analysis",
    "bench": "adq_edge.benchmark.bench",
    "build": "adq_edge.building",
    "calibrate": "adq_edge.calibrating",
    "compare": "adq_edge.comparison",
    "diagnose": "adq_edge.doctor",
    "estimate": "adq_edge.estimating.estimate",
    "evaluate": "adq_edge.evaluation",
    "export": "adq_edge.exporting",
    "load_engine": "adq_edge.runtimes.registry",
    "open_bundle": "adq_edge.bundle",
    "predict": "adq_edge.prediction",
    "read_dataset": "adq_edge.datasets.layout",
    "train": "adq_edge.training.loop",
    "train_each": "adq_edge.training.loop",
    "train_quantized": "adq_edge.training.qat.loop",
}

__all__ = sorted(_HOMES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'adq_edge' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> List[str]:
    return [*globals(), *_HOMES]
