"""The ONNX toolkit: index of a graph, constants, inputs, checks for TensorRT."""

from __future__ import annotations
