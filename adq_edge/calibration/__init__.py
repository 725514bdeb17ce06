"""Calibration: activation histograms from a stream of pictures, and ranges from histograms."""

from __future__ import annotations
