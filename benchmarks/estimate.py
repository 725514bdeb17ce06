"""Roofline estimates for a Jetson Xavier NX: the study's three methods, every precision and power mode.

    python benchmarks/estimate.py

Nothing is measured. Writes benchmarks/published/estimate.json and .md, the same on every machine.
"""

from __future__ import annotations

import dataclasses
import io
import warnings
from typing import Any, Dict, List

import onnx
import torch
from estimate_networks import ReverseDistillation, UninformedStudents
from published import publish
from torch import nn

from adq_edge.bundle import INPUT, MAP_OUTPUT, SCORE_OUTPUT
from adq_edge.environment import read_environment
from adq_edge.estimating.estimate import NOTE, ModelEstimate, estimate_model
from adq_edge.estimating.hardware import MODES
from adq_edge.estimating.roofline import layer_times
from adq_edge.estimating.study import CONDITIONS
from adq_edge.exporting import OPSET
from adq_edge.models.base import ModelConfig
from adq_edge.models.stfpm import STFPM
from adq_edge.options import Precision
from adq_edge.quantization.graph import tidy
from adq_edge.quantization.region import Region, find_region
from adq_edge.report.estimate import HEADINGS, engine_rows

SIZE = 256

_COMPUTED_ALIKE = {"Concat": "Add", "LeakyRelu": "Relu"}
"""Operators that `find_region` does not know, and known ones that are computed in integers where they are."""


def to_onnx(model: nn.Module) -> onnx.ModelProto:
    """Return a model's graph as `export` would write it, for one picture."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model.eval(),
            (torch.zeros(1, SIZE, SIZE, 3, dtype=torch.uint8),),
            buffer,
            opset_version=OPSET,
            dynamo=False,
            input_names=[INPUT],
            output_names=[MAP_OUTPUT, SCORE_OUTPUT],
        )
    return tidy(onnx.load_from_string(buffer.getvalue()))


def networks(model: onnx.ModelProto) -> Region:
    """Return the networks, concatenations and leaky activations among them."""
    stand_in = onnx.ModelProto()
    stand_in.CopyFrom(model)
    for node in stand_in.graph.node:
        node.op_type = _COMPUTED_ALIKE.get(node.op_type, node.op_type)
    return find_region(stand_in)


def estimates() -> List[ModelEstimate]:
    """Return the estimates of the three methods."""
    contenders = (
        ("STFPM, ResNet-18", STFPM(ModelConfig(image_size=(SIZE, SIZE)))),
        ("RD, WideResNet-50-2", ReverseDistillation()),
        ("US, patches of 33, dense, 3 students", UninformedStudents()),
    )
    archs = ("stfpm", "reverse_distillation", "uninformed_students")
    found = []
    for (name, network), arch in zip(contenders, archs):
        model = to_onnx(network)
        found.append(estimate_model(model, name, arch, region=networks(model)))
    return found


def rows(result: ModelEstimate) -> List[List[str]]:
    """Return a method's lines of the table."""
    lines = []
    for engine in result.engines:
        work = [f"{engine.gmac:.2f}", f"{engine.weight_mb:.1f}", f"{engine.traffic_mb:.0f}"]
        intensity = f"{engine.operations_per_byte:.0f}"
        lines += [[result.name, *row[:2], *work, intensity, *row[2:]] for row in engine_rows(engine)]
    return lines


def summary(result: ModelEstimate) -> Dict[str, Any]:
    """Return a method's estimates for the result file, without the hundred kernels behind each."""
    engines = tuple(dataclasses.replace(engine, layers=()) for engine in result.engines)
    return dataclasses.asdict(dataclasses.replace(result, engines=engines))


def teacher_ms(result: ModelEstimate) -> float:
    """Return the lower bound of RD's FP32 teacher alone, in the fastest mode."""
    engine = next(engine for engine in result.engines if engine.precision is Precision.FP32)
    layers = [layer for layer in engine.layers if layer.name.startswith(("/stem", "/encoder"))]
    return min(sum(max(layer_times(layer, mode)) for layer in layers) for mode in MODES)


def main() -> None:
    """Estimate and publish the table."""
    results = estimates()
    title = f"ESTIMATE, nothing was measured: one picture of {SIZE}x{SIZE} on a Jetson Xavier NX"
    teacher = (
        f"By this estimate RD's FP32 teacher alone takes at least {teacher_ms(results[1]):.1f} ms, so the "
        "study's figures of RD in FP16 and INT8 cannot be of FP32 teacher and student together."
    )
    work = ["GMAC", "weights MB", "traffic MB", "operations a byte"]
    publish(
        "estimate",
        f"{title}\n\nEvery time here is {NOTE}. The last column alone was {CONDITIONS}. {teacher}",
        ["method", *HEADINGS[:2], *work, *HEADINGS[2:]],
        [row for result in results for row in rows(result)],
        {"title": title, "note": NOTE, "estimates": [summary(result) for result in results]},
        read_environment(),
    )


if __name__ == "__main__":
    main()
