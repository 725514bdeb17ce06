"""Compute metrics with anomalib, in its environment: `python anomalib_metrics.py CASES.npz RESULTS.json`."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import numpy as np
import torch
from anomalib.metrics.f1_score import F1Score
from anomalib.metrics.pg_pb import _PBn, _PGn
from anomalib.metrics.pimo.pimo import _AUPIMO


class _Batch:
    def __init__(self, pred_mask, gt_mask):
        self.pred_mask, self.gt_mask = pred_mask, gt_mask


def presorted(labels, scores, rate):
    good, bad = _PGn(fnr=rate), _PBn(fpr=rate)
    for metric in (good, bad):
        metric.update(torch.from_numpy(scores), torch.from_numpy(labels).int())
    return [float(good.compute()), float(bad.compute())]


def aupimo(masks, maps):
    metric = _AUPIMO()
    metric.update(torch.from_numpy(maps), torch.from_numpy(masks))
    try:
        return float(metric.compute())
    except (RuntimeError, ValueError):
        return None  # anomalib cannot measure it


def pixel_f1(masks, maps, threshold):
    metric = F1Score(fields=["pred_mask", "gt_mask"])
    metric.update(_Batch(torch.from_numpy(maps >= threshold), torch.from_numpy(masks).int()))
    return float(metric.compute())


def main(cases: Path, results: Path) -> None:
    logging.disable(logging.WARNING)
    answers = {}
    with np.load(cases) as arrays:
        for name in {key.partition("/")[0] for key in arrays}:
            get = {key.partition("/")[2]: arrays[key] for key in arrays if key.startswith(name + "/")}
            if "scores" in get:
                answers[name] = presorted(get["labels"], get["scores"], float(get["rate"]))
            elif "threshold" in get:
                answers[name] = pixel_f1(get["masks"], get["maps"], float(get["threshold"]))
            else:
                answers[name] = aupimo(get["masks"], get["maps"])
    results.write_text(json.dumps(answers))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
