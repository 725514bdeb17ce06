"""The figures of the published study, for comparison with those of `study`.

Source: Jena et al., "Unified Anomaly Detection methods on Edge Device using Knowledge Distillation and
Quantization", arXiv 2407.02968, 2024. Figures: mean image AUROC over the 15 categories of MVTec AD, mean ms
per image of 256x256 pixels, and size in MB. Where two of its tables differ, both numbers are given.
"""

from __future__ import annotations

from typing import Mapping, NamedTuple, Optional, Tuple

from adq_edge.core.options import Device, Precision
from adq_edge.roofline.published import MEASURED_MS
from adq_edge.study.config import Training
from adq_edge.study.matrix import Cell

DATA = "MVTec AD, 15 categories, 256x256"
CPU = "cpu Xeon W-2265 (12 cores), PyTorch"
JETSON = "Jetson Xavier NX of 16 GB at 30 W, FP16 and INT8 by TensorRT, compared with any GPU here"
MVTEC_AD = (
    *("bottle", "cable", "capsule", "carpet", "grid", "hazelnut", "leather", "metal_nut", "pill", "screw"),
    *("tile", "toothbrush", "transistor", "wood", "zipper"),
)

Stated = Tuple[float, ...]
"""One published figure; two numbers where the publication's tables differ."""


class Figures(NamedTuple):
    """The published figures for one cell; None for a figure that was not published."""

    auroc: Optional[Stated] = None
    ms: Optional[float] = None
    mb: Optional[Stated] = None


_US, _RD, _STFPM = (MEASURED_MS[name] for name in ("uninformed-students", "reverse-distillation", "stfpm"))

PUBLISHED: Mapping[str, Mapping[str, Figures]] = {
    "uninformed-students": {
        "one-class fp32": Figures((0.76,)),
        "cpu fp32": Figures((0.79,), 18274.0, (26.8,)),
        "cpu int8-ptq images": Figures((0.63,), 13969.0, (11.8,)),
        "cpu int8-ptq random-normal": Figures((0.64,), 13969.0, (11.8,)),
        "cpu int8-qat": Figures((0.60,), 14608.0, (11.8,)),
        "jetson fp32": Figures((0.79,), _US[Precision.FP32], (26.8,)),
        "jetson fp16": Figures((0.79,), _US[Precision.FP16], (22.0,)),
        "jetson int8-ptq images": Figures((0.57,), _US[Precision.INT8], (15.4,)),
    },
    "reverse-distillation": {
        "one-class fp32": Figures((0.98,)),
        "cpu fp32": Figures((0.95, 0.96), 1365.4, (644.0, 645.0)),
        "cpu int8-ptq images": Figures((0.50,), 1018.0, (406.4,)),
        "cpu int8-ptq random-normal": Figures((0.75,), 1018.0, (406.4,)),
        "cpu int8-qat": Figures((0.96,), 1001.0, (406.4,)),
        "jetson fp32": Figures((0.95, 0.96), _RD[Precision.FP32], (644.0, 645.0)),
        "jetson fp16": Figures((0.82,), _RD[Precision.FP16], (526.8,)),
        "jetson int8-ptq images": Figures((0.82,), _RD[Precision.INT8], (313.6,)),
    },
    "stfpm": {
        "one-class fp32": Figures((0.97,)),
        "cpu fp32": Figures((0.94,), 275.0, (88.0,)),
        "cpu int8-ptq images": Figures((0.75,), 234.9, (55.1,)),
        "cpu int8-ptq random-normal": Figures((0.83,), 234.9, (55.1,)),
        "cpu int8-qat": Figures((0.92,), 235.2, (55.1,)),
        "jetson fp32": Figures((0.94,), _STFPM[Precision.FP32], (88.0,)),
        "jetson fp16": Figures((0.94,), _STFPM[Precision.FP16], (52.7,)),
        "jetson int8-ptq images": Figures((0.92,), _STFPM[Precision.INT8], (48.5,)),
    },
}
"""The published figures by method, then by device (or one-class training), variant and calibration source.

Sizes are totals of all networks in MB; with INT8 on the CPU, the teacher stays FP32.
"""


def published(cell: Cell) -> Figures:
    """Return the published figures for a cell, or for the nearest cell.

    CPU figures are compared with our CPU, Jetson figures with each of our GPUs. The study calibrated by L2
    in PyTorch and by entropy in TensorRT.
    """
    place = "cpu" if cell.device is Device.CPU else "jetson"
    if cell.training is Training.ONE_CLASS:
        place = cell.training.value
    key = " ".join(filter(None, (place, cell.variant.value, cell.source)))
    return PUBLISHED.get(cell.method, {}).get(key, Figures())
