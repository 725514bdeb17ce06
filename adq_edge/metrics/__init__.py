"""Metrics: AUROC, AUPRO, AUPIMO, F1, thresholds, errors with intervals, cost, agreement, SNR."""

from __future__ import annotations
