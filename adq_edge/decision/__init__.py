"""Decisions: products learned from good images, p-values, verdicts and regions; numpy and OpenCV only."""

from __future__ import annotations
