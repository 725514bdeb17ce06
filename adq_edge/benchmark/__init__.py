"""Benchmarks of engines in turns, each in a separate process."""

from __future__ import annotations
