"""The board under adq-edge: what it is, how it is set, and which of NVIDIA's libraries are on it."""

from __future__ import annotations
