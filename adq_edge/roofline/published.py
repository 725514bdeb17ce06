"""Published latencies on a Xavier NX, for comparison with the estimates.

Source: Jena et al., "Unified Anomaly Detection methods on Edge Device using Knowledge Distillation and
Quantization", arXiv 2407.02968, 2024: mean latency in ms per image of 256x256 pixels, Xavier NX with 16 GB.
"""

from __future__ import annotations

from typing import Mapping

from adq_edge.core.options import Precision

BOARD = "xavier-nx"
"""The board of these measurements."""

CONDITIONS = (
    "published (arXiv 2407.02968): measured on a Xavier NX with 16 GB in a 30 W variant, which is not a "
    "stock power mode; in FP16 and INT8 only the student was an engine, the teacher was FP32 and the scoring "
    "eager PyTorch, while each estimate is for one engine with all three"
)

MEASURED_MS: Mapping[str, Mapping[Precision, float]] = {
    "uninformed-students": {Precision.FP32: 1392.97, Precision.FP16: 699.24, Precision.INT8: 591.17},
    "reverse-distillation": {Precision.FP32: 166.60, Precision.FP16: 19.68, Precision.INT8: 18.02},
    "stfpm": {Precision.FP32: 52.14, Precision.FP16: 24.98, Precision.INT8: 24.87},
}
"""Latency in ms by method and precision."""
