"""Calibrators: each computes an activation range from a histogram."""

from __future__ import annotations
