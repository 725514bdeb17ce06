"""Quantization-aware training compared with quantization after training, for both arithmetics.

    python -m benchmarks.qat --checkpoint CHECKPOINT --data DIR [--epochs 1] [--name qat]

Builds an FP32 engine, and for each arithmetic an INT8 engine calibrated after training and one of the model
trained with quantization. All are measured on the same test images; TensorRT is emulated. Checkpoints stay in
--work, so that an interrupted run continues. Writes benchmarks/published/NAME.json and .md.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

import numpy as np
import onnx
import torch

from adq_edge.artifacts.bundle import Bundle
from adq_edge.builders.build import build
from adq_edge.calibration.calibrated_model import CalibratedModel, apply_trained_ranges, calibrate_model
from adq_edge.calibration.sources import image_source
from adq_edge.calibration.trained_ranges import QAT, QUANTIZATION, ranges_from_dict, trained_ranges_file
from adq_edge.core.options import DEFAULT_CALIBRATOR, DEFAULT_SAMPLES, Arithmetic, Target
from adq_edge.datasets.dataset import read_dataset
from adq_edge.hardware.environment import read_environment
from adq_edge.metrics.agreement import MapComparison
from adq_edge.models.checkpoint import load_checkpoint
from adq_edge.onnx_export.export import export
from adq_edge.qat import train_quantized
from adq_edge.qat.quantized_model import QuantizedModel
from adq_edge.quantization.float_model import FloatModel
from adq_edge.quantization.qdq import quantize
from benchmarks.contenders import Run, onnxruntime_engine
from benchmarks.published import publish
from benchmarks.quality import Measured, TestImage, load_tests, measure

_HEADINGS = ["engine", "arithmetic", "image AUROC", "change"]
_TITLE = (
    "Quantization-aware training compared with quantization after training\n\n"
    "Mean image AUROC over the categories; change from FP32. Agreement: SNR of the engine's anomaly maps "
    "relative to those of the fake-quantized model that was trained. TensorRT is emulated in float32."
)


class Line(NamedTuple):
    """A row of the table.

    Attributes:
        name: method that made the engine.
        arithmetic: its arithmetic.
        measured: results on the test images.
        agreement: SNR of its maps relative to the fake-quantized model, in dB; None without one.
    """

    name: str
    arithmetic: str
    measured: Measured
    agreement: Optional[float]


def after_training(bundle: Bundle, arithmetic: Arithmetic, options: argparse.Namespace) -> onnx.ModelProto:
    """Return the INT8 model that is calibrated after training."""
    if arithmetic is Arithmetic.CPU:
        return _built(bundle, options, calib=DEFAULT_CALIBRATOR)
    source = image_source(options.data, DEFAULT_SAMPLES)
    model, threads = FloatModel.load(bundle), options.threads
    return _for_tensorrt(calibrate_model(bundle, model, DEFAULT_CALIBRATOR, source, threads=threads))


def trained(bundle: Bundle, arithmetic: Arithmetic, options: argparse.Namespace) -> onnx.ModelProto:
    """Return the INT8 model with the ranges that it was trained with."""
    if arithmetic is Arithmetic.CPU:
        return _built(bundle, options, calib=QAT)
    ranges_file = trained_ranges_file(bundle.ranges_folder, arithmetic)
    return _for_tensorrt(apply_trained_ranges(bundle, FloatModel.load(bundle), ranges_file))


def _built(bundle: Bundle, options: argparse.Namespace, calib: str) -> onnx.ModelProto:
    engine = options.work / f"{bundle.manifest.name}-{calib}.onnx"
    build(bundle.path, engine, calib=calib, calib_data=options.data, device="cpu", threads=options.threads)
    return onnx.load(str(engine))


def _for_tensorrt(prepared: CalibratedModel) -> onnx.ModelProto:
    ranges = prepared.ranges.tensors
    return quantize(prepared.float_model, ranges, Target.TENSORRT, rounding=prepared.rounded_weights)


def fake_quantized(checkpoint: Path) -> Run:
    """Return the fake-quantized torch model of a checkpoint."""
    loaded = load_checkpoint(checkpoint)
    model = QuantizedModel(loaded.model, ranges_from_dict(loaded.training[QUANTIZATION])).model

    def run(image: np.ndarray) -> Tuple[np.ndarray, float]:
        with torch.inference_mode():
            maps, scores, *_ = model(torch.from_numpy(image[None]))
        return maps[0].numpy(), float(scores[0])

    return run


def lines(options: argparse.Namespace) -> Iterator[Line]:
    """Build and measure the engines; yield the rows."""
    work: Path = options.work
    plain = export(
        options.checkpoint, work / "fp32", data=options.data, teacher_weights=options.teacher_weights
    )
    tests = load_tests(read_dataset(options.data), plain.manifest.image_size, options.limit)
    model = onnx.load(str(plain.model))
    yield Line("FP32", "-", _measure(model, Target.X86, tests, options.threads), None)
    for name in options.target or [arithmetic.value for arithmetic in Arithmetic]:
        arithmetic = Arithmetic(name)
        target = Target.TENSORRT if arithmetic is Arithmetic.TENSORRT else Target.X86
        after = after_training(plain, arithmetic, options)
        yield Line("INT8 after training", name, _measure(after, target, tests, options.threads), None)
        result = train_quantized(
            options.checkpoint,
            target=arithmetic,
            data=options.data,
            teacher_weights=options.teacher_weights,
            output=work / f"qat-{name}.pt",
            epochs=options.epochs,
            batch_size=options.batch_size,
            learning_rate=options.learning_rate,
        )
        bundle = export(result.checkpoint, work / f"qat-{name}", data=options.data)
        with_it = trained(bundle, arithmetic, options)
        measured = _measure(with_it, target, tests, options.threads)
        few = tests[:: max(1, len(tests) // options.compared)]
        agreement = _agreement(fake_quantized(result.checkpoint), with_it, target, few, options.threads)
        yield Line(f"INT8, trained for {result.epochs} epoch(s)", name, measured, agreement)
        unrounded = _measure(onnx.load(str(bundle.model)), Target.X86, tests, options.threads)
        yield Line("the trained weights, activations FP32", name, unrounded, None)


def _measure(model: onnx.ModelProto, target: Target, tests: List[TestImage], threads: int) -> Measured:
    return measure(onnxruntime_engine(model, target, threads), tests)


def _agreement(
    reference: Run, model: onnx.ModelProto, target: Target, tests: List[TestImage], threads: int
) -> Optional[float]:
    engine = onnxruntime_engine(model, target, threads)
    maps = MapComparison()
    for test in tests:
        maps.update(reference(test.image)[0], engine(test.image)[0])
    return maps.compute().snr_db


def row(line: Line, reference: Measured) -> List[str]:
    """Return the cells of a row."""
    auroc, before = line.measured.image_auroc, reference.image_auroc
    change = "-" if auroc is None or before is None else f"{auroc - before:+.4f}"
    return [
        line.name,
        line.arithmetic,
        "-" if auroc is None else f"{auroc:.4f}",
        change,
        *("-" if value is None else f"{value:.4f}" for value in line.measured.categories.values()),
        "-" if line.agreement is None else f"{line.agreement:.1f}",
    ]


def figures(line: Line) -> Dict[str, Any]:
    """Return the figures of a row for the JSON file."""
    return {
        "engine": line.name,
        "arithmetic": line.arithmetic,
        "image_auroc": line.measured.image_auroc,
        "categories": line.measured.categories,
        "agreement_db": line.agreement,
    }


def read_options() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", required=True, type=Path)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--teacher-weights", help="teacher weights, for checkpoints of the student alone")
    parser.add_argument("--target", action="append", choices=[item.value for item in Arithmetic])
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--work", type=Path, default=Path("qat"), help="folder of checkpoints and bundles")
    parser.add_argument("--name", default="qat", help="name of the files in benchmarks/published")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--limit", type=int, help="maximum number of test images; all by default")
    parser.add_argument("--compared", type=int, default=40, help="number of images for the agreement")
    return parser.parse_args()


def main() -> None:
    """Measure the engines and publish the table."""
    options = read_options()
    options.work.mkdir(parents=True, exist_ok=True)
    found: List[Line] = []
    for line in lines(options):
        found.append(line)
        print(" | ".join(row(line, found[0].measured)), flush=True)
    reference = found[0].measured
    publish(
        options.name,
        _TITLE,
        [*_HEADINGS, *reference.categories, "agreement dB"],
        [row(line, reference) for line in found],
        {"images": len(reference.labels), "engines": [figures(line) for line in found]},
        read_environment(),
    )


if __name__ == "__main__":
    main()
