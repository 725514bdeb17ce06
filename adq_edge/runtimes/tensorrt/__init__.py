"""TensorRT from 8.5 to 11 and TensorRT-RTX: building in a process of its own, and running."""

from __future__ import annotations
