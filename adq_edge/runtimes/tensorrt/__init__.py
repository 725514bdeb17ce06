"""TensorRT 8.5 to 11 and TensorRT-RTX: builds in a worker process, and runs engines."""

from __future__ import annotations
