"""MSE: the range whose 8-bit grid has the smallest mean squared error, clipping included.

Source: Sung et al., "Resiliency of Deep Neural Networks under Quantization", 2015 (L2 error minimization).
"""

from __future__ import annotations

from adq_edge.calibration.calibrators.lp import LpCalibrator


class MSECalibrator(LpCalibrator):
    """The Lp calibrator with p = 2."""

    def __init__(self) -> None:
        super().__init__(power=2.0)
