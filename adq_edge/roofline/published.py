"""What the study that adq-edge follows measured on its Xavier NX, to be set beside the estimates.

Source: Jena et al., "Unified Anomaly Detection methods on Edge Device using Knowledge Distillation and
Quantization", arXiv 2407.02968, 2024: mean milliseconds per image of 256x256 on a Xavier NX of 16 GB.
"""

from __future__ import annotations

from typing import Mapping

from adq_edge.core.options import Precision

CONDITIONS = (
    "measured by the study (arXiv 2407.02968) on a Xavier NX of 16 GB in what it calls a 30 W variant, which "
    "no stock power mode is; in FP16 and INT8 only its student was an engine, the teacher stayed FP32 and "
    "eager PyTorch did the scoring, while the estimates are of one engine that holds all three"
)

MEASURED_MS: Mapping[str, Mapping[Precision, float]] = {
    "uninformed-students": {Precision.FP32: 1392.97, Precision.FP16: 699.24, Precision.INT8: 591.17},
    "reverse-distillation": {Precision.FP32: 166.60, Precision.FP16: 19.68, Precision.INT8: 18.02},
    "stfpm": {Precision.FP32: 52.14, Precision.FP16: 24.98, Precision.INT8: 24.87},
}
"""Milliseconds by method and precision."""
