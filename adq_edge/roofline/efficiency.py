"""How much of a board's peaks TensorRT reaches, fitted on published measurements of real boards.

`benchmarks/estimate_fit.py` fits these numbers on half of the networks whose latency on a Jetson is published
(benchmarks/published_latencies.py), and checks them on the other half. Its result is
benchmarks/published/estimate_fit.md, and a test compares the numbers here with it.
"""

from __future__ import annotations

import dataclasses
from typing import Mapping, Tuple

from adq_edge.hardware.boards import Board, BoardMode
from adq_edge.roofline.workload import Layer

_ASSUMED_FROM = {"fp32": "tf32", "fp8": "int8"}
"""Formats without a published measurement at batch 1, and the format whose share stands in."""


@dataclasses.dataclass(frozen=True)
class Efficiency:
    """Shares of the peaks, and the time that a kernel takes besides.

    Attributes:
        shares: share of the peak rate by number format.
        volta: factor of the shares for the tensor cores of Volta (Xavier).
        vector: share of the peak rate without tensor cores, of grouped and depthwise convolutions.
        memory: share of the peak bandwidth.
        kernel_us: time to start, fill and end a kernel, in us at a GPU clock of 1 GHz.
    """

    shares: Mapping[str, float]
    volta: float
    vector: float
    memory: float
    kernel_us: float

    def layer_ms(self, layer: Layer, board: Board, mode: BoardMode, number_format: str) -> float:
        """Return the expected time of a kernel in ms, computed in a number format."""
        if layer.grouped:
            rate = self.vector * board.vector_peak(mode, number_format)
        else:
            rate = self.share(board, number_format) * board.peak(mode, number_format)
        memory_ms = 1e3 * layer.bytes / (self.memory * board.bandwidth(mode))
        return max(1e3 * 2 * layer.macs / rate, memory_ms) + self.kernel_us / mode.gpu_mhz

    def share(self, board: Board, number_format: str) -> float:
        """Return the share of the peak rate in a number format."""
        share = self.shares[_ASSUMED_FROM.get(number_format, number_format)]
        has_early_cores = board.chip.gpu == "Volta" and number_format != "fp32"
        return share * (self.volta if has_early_cores else 1.0)


FITTED = Efficiency(
    shares={"tf32": 0.444, "fp16": 0.669, "int8": 0.763},
    volta=0.663,
    vector=0.0932,
    memory=0.971,
    kernel_us=12.16,
)

BAND: Tuple[float, float] = (0.69, 1.45)
"""Factors of the expected latency; 94 % of the published latencies of held-out networks are in between."""

CHECK = (
    "fitted on 27 published latencies of real boards; of 36 others, of networks held out of the fit, 34 lie "
    "in the range (factor 0.69 to 1.45). FP32 without TF32, and Thor, could not be checked"
)
"""The check of the fit, in words."""
