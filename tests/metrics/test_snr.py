"""The signal-to-noise ratio of arrays."""

from __future__ import annotations

import math

import numpy as np
import pytest

from adq_edge.metrics.snr import SnrMeter, snr_db


def test_snr_is_the_ratio_of_energies_over_all_pairs():
    generator = np.random.default_rng(0)
    reference = generator.normal(size=(3, 4, 5)).astype(np.float32)
    other = reference + generator.normal(size=reference.shape).astype(np.float32)
    wide, meter = reference.astype(np.float64), SnrMeter()
    expected = 10 * math.log10((wide**2).sum() / ((wide - other) ** 2).sum())
    assert snr_db(reference, other) == pytest.approx(expected, abs=1e-9)
    for pair in zip(reference, other):
        assert meter.update(*pair) == snr_db(*pair)
    assert meter.snr_db() == pytest.approx(expected, abs=1e-9)


def test_snr_of_equal_arrays_and_of_a_zero_reference_is_infinite():
    zero, one = np.zeros(3, np.float32), np.ones(3, np.float32)
    assert snr_db(one, one) == snr_db(zero, zero) == math.inf
    assert snr_db(zero, one) == -math.inf
    assert math.isfinite(snr_db(np.full(3, 1e-30), np.full(3, 1e30)))
