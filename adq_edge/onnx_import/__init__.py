"""Converts ONNX models of other tools to bundles; needs no torch."""

from __future__ import annotations
