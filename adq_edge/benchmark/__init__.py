"""Benchmarks: engines timed side by side, each in a process of its own."""

from __future__ import annotations
