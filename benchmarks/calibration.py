"""Calibration time and peak memory, compared with FP32 inference and ONNX Runtime's calibrators.

    python -m benchmarks.calibration --bundle bundles/stfpm-demo --images DIR [--samples 200]

Each contender runs in its own process on the same images, one after the other. Peak memory is therefore its
own, and times can be compared. Writes benchmarks/published/calibration.json and .md.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import numpy as np
import onnx
import onnxruntime

from adq_edge.artifacts.bundle import Bundle, open_bundle
from adq_edge.calibration.calibrate import calibrate_bundle
from adq_edge.calibration.sources import ImageSource, image_source
from adq_edge.hardware.environment import read_environment
from adq_edge.quantization.float_model import FloatModel
from benchmarks.published import publish

OURS = ["entropy", "minmax", "mse", "percentile"]


def inference(bundle: Bundle, source: ImageSource, threads: int) -> None:
    """Run the float model on every image, as the reference."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(bundle.model), options, providers=["CPUExecutionProvider"])
    for image in source.images(bundle.manifest.image_size):
        session.run(None, {"image": image[None]})


def ours(calibrators: List[str]) -> Callable[[Bundle, ImageSource, int], None]:
    """Calibrate a copy of the bundle with adq-edge's calibrators in one pass."""

    def run(bundle: Bundle, source: ImageSource, threads: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            shutil.copytree(str(bundle.path), f"{folder}/b", ignore=shutil.ignore_patterns("ranges"))
            copy = open_bundle(Path(folder) / "b")
            calibrate_bundle(copy, FloatModel.load(copy), calibrators, source, threads=threads)

    return run


def theirs(method: str) -> Callable[[Bundle, ImageSource, int], None]:
    """Calibrate the same tensors with onnxruntime.quantization."""

    def run(bundle: Bundle, source: ImageSource, threads: int) -> None:
        from onnxruntime.quantization.calibrate import CalibrationMethod, create_calibrator

        class Reader:
            def __init__(self) -> None:
                self.images: Iterator[np.ndarray] = source.images(bundle.manifest.image_size)

            def get_next(self) -> Dict[str, np.ndarray]:
                image = next(self.images, None)
                return {} if image is None else {"image": image[None]}

        with tempfile.TemporaryDirectory() as folder:
            calibrator = create_calibrator(
                bundle.model,
                ["Conv", "Add", "MaxPool"],
                augmented_model_path=f"{folder}/augmented.onnx",
                calibrate_method=getattr(CalibrationMethod, method),
            )
            calibrator.collect_data(Reader())
            calibrator.compute_data()

    return run


CONTENDERS: Dict[str, Callable[[Bundle, ImageSource, int], None]] = {
    "plain FP32 inference": inference,
    "adq-edge, entropy": ours(["entropy"]),
    "adq-edge, all four calibrators": ours(OURS),
    "onnxruntime.quantization, min-max": theirs("MinMax"),
    "onnxruntime.quantization, entropy": theirs("Entropy"),
    "onnxruntime.quantization, percentile": theirs("Percentile"),
}


def measure(
    name: str, bundle: str, images: str, samples: int, threads: int, results: multiprocessing.Queue[Any]
) -> None:
    """Run one contender and send its time in seconds and its peak memory in MB."""
    source = image_source(Path(images), samples)
    started = time.perf_counter()
    CONTENDERS[name](open_bundle(Path(bundle)), source, threads)
    seconds = time.perf_counter() - started
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    results.put({"contender": name, "images": len(source), "seconds": seconds, "peak_rss_mb": peak_mb})


def main() -> None:
    """Measure every contender and publish the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", required=True)
    parser.add_argument("--images", required=True)
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    rows = []
    for name in CONTENDERS:
        results = context.Queue()
        arguments = (name, options.bundle, options.images, options.samples, options.threads, results)
        process = context.Process(target=measure, args=arguments)
        process.start()
        rows.append(results.get())
        process.join()
        rows[-1]["ratio_to_inference"] = rows[-1]["seconds"] / rows[0]["seconds"]
        print(json.dumps(rows[-1]), flush=True)
    onnx_model = onnx.load(str(open_bundle(Path(options.bundle)).model))
    table = [
        [
            row["contender"],
            f"{row['seconds']:.1f}",
            f"{row['ratio_to_inference']:.2f}",
            f"{row['peak_rss_mb']:.0f}",
        ]
        for row in rows
    ]
    publish(
        "calibration",
        f"Calibration of {rows[0]['images']} images, {options.threads} threads, a model of "
        f"{len(onnx_model.graph.node)} operators",
        ["contender", "seconds", "ratio to FP32 inference", "peak RSS MB"],
        table,
        {"rows": rows},
        read_environment(),
    )


if __name__ == "__main__":
    main()
