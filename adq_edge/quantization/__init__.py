"""Quantization: the region, placement, Q/DQ insertion, equalization, rounding, and graph passes."""

from __future__ import annotations
