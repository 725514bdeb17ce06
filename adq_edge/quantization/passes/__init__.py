"""Graph passes: one rewrite of an ONNX graph a file."""

from __future__ import annotations
