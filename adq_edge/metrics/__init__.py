"""Metrics: image and pixel AUROC, AUPRO, thresholds, agreement, SNR."""

from __future__ import annotations
