"""ONNX graphs: read access, edits, and checks for TensorRT."""

from __future__ import annotations
