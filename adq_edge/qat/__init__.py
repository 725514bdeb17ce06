"""Quantization-aware training: weights and ranges learned with the rounding of the engine in the loop."""

from __future__ import annotations

from adq_edge.qat.train import QatResult, train_quantized

__all__ = ["QatResult", "train_quantized"]
