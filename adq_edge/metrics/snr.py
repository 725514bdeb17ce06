"""Signal-to-noise ratio (SNR) of arrays against their references, in dB."""

from __future__ import annotations

import math

import numpy as np


class SnrMeter:
    """Accumulates the SNR over any number of array pairs; sums are float64."""

    def __init__(self) -> None:
        self._signal = 0.0
        self._noise = 0.0
        self._lowest = math.inf
        self._highest = -math.inf

    @property
    def is_reference_constant(self) -> bool:
        """True if all values of all references are equal, zeros for example; also before the first pair."""
        return self._lowest >= self._highest

    def update(self, reference: np.ndarray, other: np.ndarray) -> float:
        """Add one pair of finite arrays of equal shape and return its own SNR in dB, as `snr_db` does."""
        values = reference.astype(np.float64).ravel()
        difference = values - other.ravel()
        signal, noise = float(values @ values), float(difference @ difference)
        self._signal += signal
        self._noise += noise
        self._lowest = min(self._lowest, float(values.min()))
        self._highest = max(self._highest, float(values.max()))
        return _decibels(signal, noise)

    def snr_db(self) -> float:
        """Return the SNR over all pairs in dB; `inf` and `-inf` as in the function `snr_db`."""
        return _decibels(self._signal, self._noise)


def snr_db(reference: np.ndarray, other: np.ndarray) -> float:
    """Return 10 log10(sum R^2 / sum (R - X)^2) of a reference R and another array X, in dB.

    Equal arrays give `inf`. If only the reference is zero everywhere, the result is `-inf`.
    """
    return SnrMeter().update(reference, other)


def _decibels(signal: float, noise: float) -> float:
    if noise == 0:
        return math.inf
    return 10 * (math.log10(signal) - math.log10(noise)) if signal > 0 else -math.inf
