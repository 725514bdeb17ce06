"""Graph passes: Q/DQ insertion per target, and the lint for what TensorRT 8.5 can read."""

from __future__ import annotations
