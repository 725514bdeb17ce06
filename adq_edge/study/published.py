"""The figures of the published study, for comparison with ours.

Source: Jena et al., "Unified Anomaly Detection methods on Edge Device using Knowledge Distillation and
Quantization", arXiv 2407.02968, 2024: mean image AUROC over the 15 categories of MVTec AD, mean milliseconds
per image of 256x256, MB. Where two of its tables differ, both numbers are given.
"""

from __future__ import annotations

import dataclasses
from typing import Mapping, NamedTuple, Optional, Tuple

from adq_edge.core.options import Device, Precision
from adq_edge.roofline.published import MEASURED_MS
from adq_edge.study.config import Training, Variant
from adq_edge.study.matrix import Cell

DATA = "MVTec AD, 15 categories, 256x256"
CPU = "cpu Xeon W-2265 (12 cores), PyTorch"
JETSON = "Jetson Xavier NX of 16 GB at 30 W, FP16 and INT8 by TensorRT, compared with any GPU of ours"
MVTEC_AD = (
    *("bottle", "cable", "capsule", "carpet", "grid", "hazelnut", "leather", "metal_nut", "pill", "screw"),
    *("tile", "toothbrush", "transistor", "wood", "zipper"),
)

Stated = Tuple[float, ...]
"""One figure as printed; two where the tables of the publication differ."""


class Figures(NamedTuple):
    """The published figures for one cell; None where there is none."""

    auroc: Optional[Stated] = None
    ms: Optional[float] = None
    mb: Optional[Stated] = None


@dataclasses.dataclass(frozen=True)
class MethodFigures:
    """The published figures for one method: image AUROC, mean ms per image, MB of all files.

    Attributes:
        one_class_auroc: FP32.
        unified_auroc: FP32.
        cpu_ms: FP32 on the CPU.
        mb: FP32.
        int8_auroc: post-training INT8 in PyTorch, by calibration source.
        int8_ms: the same on the CPU.
        int8_mb: teacher in FP32, student in INT8.
        qat_auroc: quantization-aware training in PyTorch.
        qat_ms: the same on the CPU.
        tensorrt_auroc: on the Jetson.
        tensorrt_mb: on the Jetson.
    """

    one_class_auroc: float
    unified_auroc: Stated
    cpu_ms: float
    mb: Stated
    int8_auroc: Mapping[str, float]
    int8_ms: float
    int8_mb: float
    qat_auroc: float
    qat_ms: float
    tensorrt_auroc: Mapping[Precision, float]
    tensorrt_mb: Mapping[Precision, float]


PUBLISHED: Mapping[str, MethodFigures] = {
    "uninformed-students": MethodFigures(
        one_class_auroc=0.76,
        unified_auroc=(0.79,),
        cpu_ms=18274.0,
        mb=(26.8,),
        int8_auroc={"images": 0.63, "random-normal": 0.64},
        int8_ms=13969.0,
        int8_mb=11.8,
        qat_auroc=0.60,
        qat_ms=14608.0,
        tensorrt_auroc={Precision.FP16: 0.79, Precision.INT8: 0.57},
        tensorrt_mb={Precision.FP16: 22.0, Precision.INT8: 15.4},
    ),
    "reverse-distillation": MethodFigures(
        one_class_auroc=0.98,
        unified_auroc=(0.95, 0.96),
        cpu_ms=1365.4,
        mb=(644.0, 645.0),
        int8_auroc={"images": 0.50, "random-normal": 0.75},
        int8_ms=1018.0,
        int8_mb=406.4,
        qat_auroc=0.96,
        qat_ms=1001.0,
        tensorrt_auroc={Precision.FP16: 0.82, Precision.INT8: 0.82},
        tensorrt_mb={Precision.FP16: 526.8, Precision.INT8: 313.6},
    ),
    "stfpm": MethodFigures(
        one_class_auroc=0.97,
        unified_auroc=(0.94,),
        cpu_ms=275.0,
        mb=(88.0,),
        int8_auroc={"images": 0.75, "random-normal": 0.83},
        int8_ms=234.9,
        int8_mb=55.1,
        qat_auroc=0.92,
        qat_ms=235.2,
        tensorrt_auroc={Precision.FP16: 0.94, Precision.INT8: 0.92},
        tensorrt_mb={Precision.FP16: 52.7, Precision.INT8: 48.5},
    ),
}


def published(cell: Cell) -> Figures:
    """Return the published figures for a cell, or for the nearest cell.

    The published CPU is compared with ours, the published Jetson with every GPU of ours. Calibration was by
    L2 in PyTorch and by entropy in TensorRT.
    """
    found = PUBLISHED.get(cell.method)
    if found is None:
        return Figures()
    if cell.training is Training.ONE_CLASS:
        return Figures((found.one_class_auroc,)) if cell.variant is Variant.FP32 else Figures()
    if cell.device is not Device.CPU:
        return _on_jetson(cell, found)
    if cell.variant is Variant.FP32:
        return Figures(found.unified_auroc, found.cpu_ms, found.mb)
    if cell.variant is Variant.QAT:
        return Figures((found.qat_auroc,), found.qat_ms, (found.int8_mb,))
    if cell.variant is Variant.PTQ and cell.source is not None and cell.source in found.int8_auroc:
        return Figures((found.int8_auroc[cell.source],), found.int8_ms, (found.int8_mb,))
    return Figures()


def _on_jetson(cell: Cell, found: MethodFigures) -> Figures:
    if cell.variant is Variant.QAT or (cell.variant is Variant.PTQ and cell.source != "images"):
        return Figures()
    ms = MEASURED_MS[cell.method][cell.precision]
    if cell.variant is Variant.FP32:
        return Figures(found.unified_auroc, ms, found.mb)
    return Figures((found.tensorrt_auroc[cell.precision],), ms, (found.tensorrt_mb[cell.precision],))
