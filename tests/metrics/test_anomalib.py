"""The metrics of decisions against anomalib itself, which is installed in an environment of its own.

Run with ADQ_EDGE_ANOMALIB_PYTHON=/path/to/venv/bin/python; without it these tests are skipped.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from adq_edge.metrics.aupimo import AupimoMeter
from adq_edge.metrics.presorted import presorted_bad, presorted_good
from adq_edge.metrics.segmentation import SegF1Meter

PYTHON = os.environ.get("ADQ_EDGE_ANOMALIB_PYTHON")
SCRIPT = Path(__file__).with_name("anomalib_metrics.py")

pytestmark = pytest.mark.skipif(PYTHON is None, reason="needs ADQ_EDGE_ANOMALIB_PYTHON")


@pytest.fixture
def ask(tmp_path):
    """Return a function that gives anomalib's answer for each named case, a dict of arrays."""

    def answers(cases):
        arrays = {f"{name}/{key}": value for name, case in cases.items() for key, value in case.items()}
        np.savez(tmp_path / "cases.npz", **arrays)
        command = [PYTHON, SCRIPT, tmp_path / "cases.npz", tmp_path / "results.json"]
        subprocess.run(command, check=True)
        return json.loads((tmp_path / "results.json").read_text())

    return answers


def random_scores(seed: int):
    """Return labels and float32 scores of both classes: few or many, with and without ties."""
    rng = np.random.default_rng(seed)
    good, defective = rng.integers(1, (4, 60, 400)[seed % 3], 2)
    labels = np.arange(good + defective) < defective
    scores = rng.normal(size=labels.size) + labels
    if seed % 2:
        scores = np.round(scores * rng.integers(1, 9)) / 8
    return labels, scores.astype(np.float32)


def test_pg_and_pb_equal_anomalib(ask):
    cases = {}
    for seed in range(3000):
        labels, scores = random_scores(seed)
        rate = (0.02, 0.0, 0.05, 0.1, 0.01, 1.0)[seed // 6 % 6]
        cases[str(seed)] = {"labels": labels, "scores": scores, "rate": np.array(rate)}
    expected = ask(cases)
    for name, case in cases.items():
        labels, scores, rate = case["labels"], case["scores"], float(case["rate"])
        found = [presorted_good(labels, scores, rate), presorted_bad(labels, scores, rate)]
        assert found == pytest.approx(expected[name], abs=1e-6), name


def random_maps(seed: int, ties: int = 0):
    """Return masks and float64 maps `[N, h, w]` with float32 values: first the good images."""
    rng = np.random.default_rng(seed)
    good, defective, size = int(rng.integers(3, 9)), int(rng.integers(1, 5)), int(rng.integers(190, 240))
    masks = np.zeros((good + defective, size, size), bool)
    for mask in masks[good:]:
        row, column = rng.integers(0, size - 20, 2)
        mask[row : row + rng.integers(1, 40), column : column + rng.integers(1, 40)] = True
    noise = rng.normal(size=masks.shape)
    maps = np.exp(noise + rng.uniform(1, 4) * masks) if seed % 2 else noise + rng.uniform(1, 5) * masks
    if ties:
        maps = np.round(maps * ties) / ties
    return masks, maps.astype(np.float32).astype(np.float64)


def test_aupimo_equals_anomalib(ask):
    cases = {}
    for seed in range(12):
        masks, maps = random_maps(seed, ties=(0, 64, 1000)[seed % 3])
        cases[str(seed)] = {"masks": masks, "maps": maps.astype((np.float32, float, float)[seed % 3])}
    masks, maps = random_maps(12)
    cases["too few pixels of good images"] = {"masks": masks[-2:], "maps": maps[-2:]}
    cases["constant"] = {"masks": masks, "maps": np.ones_like(maps)}
    cases["ties"] = {"masks": masks, "maps": np.round(maps)}
    expected = ask(cases)
    for name, case in cases.items():
        meter = AupimoMeter()
        for mask, anomaly_map in zip(case["masks"], case["maps"]):
            meter.update(mask, anomaly_map)
        assert meter.compute() == pytest.approx(expected[name], abs=1e-6), name
    measured = [value for value in expected.values() if value is not None]
    assert len(measured) >= 8
    assert 0.05 < np.mean(measured) < 0.95


def test_pixel_f1_equals_anomalib(ask):
    cases = {}
    for seed in range(6):
        masks, maps = random_maps(seed, ties=4 * (seed % 2))
        cases[str(seed)] = {"masks": masks, "maps": maps, "threshold": np.array(1.25 + seed / 2)}
    cases["nothing found"] = {"masks": masks, "maps": maps, "threshold": np.array(1e9)}
    expected = ask(cases)
    for name, case in cases.items():
        meter = SegF1Meter(float(case["threshold"]))
        for mask, anomaly_map in zip(case["masks"], case["maps"]):
            meter.update(mask, anomaly_map)
        assert meter.compute() == pytest.approx(expected[name], abs=1e-6), name
    assert len(set(expected.values())) == 7
