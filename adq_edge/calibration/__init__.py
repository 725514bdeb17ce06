"""Calibration: activation histograms from a stream of images, and ranges from histograms."""

from __future__ import annotations
