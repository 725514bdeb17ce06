"""Roofline estimates of the latency on a board that is not available. Nothing is measured."""

from __future__ import annotations
