"""The contenders of each model, those of adq-edge first."""

from __future__ import annotations

import dataclasses
from typing import Dict, Sequence, Tuple

STFPM, RD = "stfpm", "rd"
OFFICIAL, ANOMALIB = "official", "anomalib"
"""Two ways to compute scores: the method's original code and anomalib (alone for Reverse Distillation)."""
PASTE = "paste"
"""Scoring and weights of PaSTe: the same teacher, and a student that shares its first layers."""

TITLES = {
    STFPM: "STFPM, ResNet-18",
    RD: "Reverse Distillation, WideResNet-50-2 with anomalib's bottleneck (random weights)",
}


@dataclasses.dataclass(frozen=True)
class Contender:
    """One row of a table.

    Attributes:
        label: name in the table.
        maker: `adq-edge` or another project, as in `--python` and `--only`.
        precision: `fp32` or `int8`.
        peer: the module of this package that runs it.
        variant: one of the module's variants.
        scoring: how map and score are computed; selects the reference.
    """

    label: str
    maker: str
    precision: str
    peer: str
    variant: str
    scoring: str

    @property
    def is_ours(self) -> bool:
        """True for adq-edge's engines."""
        return self.maker == OURS

    @property
    def key(self) -> str:
        """Name for files."""
        return f"{self.peer}-{self.variant}"


OURS = "adq-edge"
TORCH, ONNXRUNTIME, NNCF, ANOMALIB_MAKER = "torch", "onnxruntime", "nncf", "anomalib"
MAKERS = (OURS, TORCH, ONNXRUNTIME, NNCF, ANOMALIB_MAKER)


def _ours(precision: str, runtime: str, scoring: str, note: str = "") -> Contender:
    label = f"adq-edge {precision.upper()}, {runtime}{note}"
    return Contender(label, OURS, precision, "adq_engine", f"{precision}-{runtime}-{scoring}", scoring)


def _peers(scoring: str) -> Tuple[Contender, ...]:
    """Return the peers that exist for both models; `scoring` is that of the exported graph."""
    quantizer = "onnxruntime_quantizer"
    return (
        Contender("torch eager FP32", TORCH, "fp32", "torch_eager", f"contiguous-{scoring}", scoring),
        Contender(
            "torch eager FP32, channels last",
            TORCH,
            "fp32",
            "torch_eager",
            f"channels_last-{scoring}",
            scoring,
        ),
        Contender(
            "onnxruntime quantize_static, defaults",
            ONNXRUNTIME,
            "int8",
            quantizer,
            f"defaults-{scoring}",
            scoring,
        ),
        Contender(
            "onnxruntime quantize_static, U8S8 on conv, add, pool",
            *(ONNXRUNTIME, "int8", quantizer, f"tuned-{scoring}", scoring),
        ),
        Contender("NNCF defaults, OpenVINO", NNCF, "int8", "nncf_openvino", f"defaults-{scoring}", scoring),
        Contender(
            "anomalib INT8_PTQ, OpenVINO, fixed input",
            *(ANOMALIB_MAKER, "int8", "anomalib_int8", "fixed", ANOMALIB),
        ),
        Contender(
            "anomalib INT8_PTQ, OpenVINOInferencer",
            *(ANOMALIB_MAKER, "int8", "anomalib_int8", "inferencer", ANOMALIB),
        ),
        Contender(
            "anomalib uncompressed, OpenVINO, fixed input",
            *(ANOMALIB_MAKER, "fp32", "anomalib_int8", "plain", ANOMALIB),
        ),
    )


_STFPM = (
    _ours("int8", "openvino", PASTE, ", PaSTe"),
    _ours("int8", "onnxruntime", PASTE, ", PaSTe"),
    _ours("int8", "openvino", OFFICIAL),
    _ours("int8", "onnxruntime", OFFICIAL),
    _ours("int8", "openvino", ANOMALIB, ", anomalib's scoring"),
    _ours("int8", "onnxruntime", ANOMALIB, ", anomalib's scoring"),
    _ours("fp32", "openvino", OFFICIAL),
    _ours("fp32", "onnxruntime", OFFICIAL),
    *_peers(OFFICIAL),
    Contender("torch FBGEMM INT8 student", TORCH, "int8", "torch_fbgemm", f"contiguous-{OFFICIAL}", OFFICIAL),
)
# Without FBGEMM: torch has no transposed convolution with a scale per channel.
_RD = (
    _ours("int8", "openvino", ANOMALIB),
    _ours("int8", "onnxruntime", ANOMALIB),
    _ours("fp32", "openvino", ANOMALIB),
    _ours("fp32", "onnxruntime", ANOMALIB),
    *_peers(ANOMALIB),
)

CONTENDERS: Dict[str, Sequence[Contender]] = {STFPM: _STFPM, RD: _RD}
