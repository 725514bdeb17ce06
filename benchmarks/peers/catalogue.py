"""Who is compared: every contender of each model, ours first."""

from __future__ import annotations

import dataclasses
from typing import Dict, Sequence, Tuple

STFPM, RD = "stfpm", "rd"
OFFICIAL, ANOMALIB = "official", "anomalib"
"""The two ways to score: the method's own code's and anomalib's. Reverse Distillation is run with one."""

TITLES = {
    STFPM: "STFPM, ResNet-18",
    RD: "Reverse Distillation, WideResNet-50-2 with anomalib's bottleneck (random weights)",
}


@dataclasses.dataclass(frozen=True)
class Contender:
    """One line of a table.

    Attributes:
        label: what the table calls it.
        maker: `adq-edge`, or whose it is: `--python` and `--only` name it so.
        precision: `fp32` or `int8`.
        peer: the module of this package that runs it.
        variant: which of the module's ways.
        scoring: the way its map and score are computed, so the reference that it is compared with.
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
        """A name for files."""
        return f"{self.peer}-{self.variant}"


OURS = "adq-edge"
TORCH, ONNXRUNTIME, NNCF, ANOMALIB_MAKER = "torch", "onnxruntime", "nncf", "anomalib"
MAKERS = (OURS, TORCH, ONNXRUNTIME, NNCF, ANOMALIB_MAKER)


def _ours(precision: str, runtime: str, scoring: str, note: str = "") -> Contender:
    label = f"adq-edge {precision.upper()}, {runtime}{note}"
    return Contender(label, OURS, precision, "adq_engine", f"{precision}-{runtime}-{scoring}", scoring)


def _peers(scoring: str) -> Tuple[Contender, ...]:
    """Return other people's ways that exist for both models; `scoring` is the exported graph's."""
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
    _ours("int8", "openvino", OFFICIAL),
    _ours("int8", "onnxruntime", OFFICIAL),
    _ours("int8", "openvino", ANOMALIB, ", anomalib's scoring"),
    _ours("int8", "onnxruntime", ANOMALIB, ", anomalib's scoring"),
    _ours("fp32", "openvino", OFFICIAL),
    _ours("fp32", "onnxruntime", OFFICIAL),
    *_peers(OFFICIAL),
    Contender("torch FBGEMM INT8 student", TORCH, "int8", "torch_fbgemm", f"contiguous-{OFFICIAL}", OFFICIAL),
)
# FBGEMM is left out: torch has no transposed convolution with a scale for each channel.
_RD = (
    _ours("int8", "openvino", ANOMALIB),
    _ours("int8", "onnxruntime", ANOMALIB),
    _ours("fp32", "openvino", ANOMALIB),
    _ours("fp32", "onnxruntime", ANOMALIB),
    *_peers(ANOMALIB),
)

CONTENDERS: Dict[str, Sequence[Contender]] = {STFPM: _STFPM, RD: _RD}
