"""The roofline: a kernel takes at least as long as its arithmetic, and at least as long as its traffic.

    t >= max(2 * MACs / peak(arithmetic), bytes / bandwidth)        Williams et al., "Roofline", CACM 2009

Kernels run one after the other, so an inference takes at least the sum. Left out are elementwise arithmetic,
the launches of kernels, and what a cache saves between two of them. No engine reaches its peaks: NVIDIA's own
INT8 ResNet-50 gets about 30 % out of a Xavier NX (jetson_benchmarks: 824 images a second on GPU and DLAs).
25 to 50 % are to be expected of tensor cores, hence the range; in FP32 it can be more.
"""

from __future__ import annotations

import dataclasses
from typing import Tuple

from adq_edge.roofline.workload import Layer, Workload
from adq_edge.roofline.xavier_nx import PowerMode

EXPECTED_SHARES = (0.5, 0.25)
"""Shares of the peaks that an engine can be expected to reach, the best first."""


@dataclasses.dataclass(frozen=True)
class Estimate:
    """An estimate, not a measurement, of one inference in one power mode.

    Attributes:
        mode: the power mode.
        lower_bound_ms: milliseconds at 100 % of the peaks.
        range_ms: milliseconds at 50 % and at 25 % of the peaks.
        compute_bound_ms: the part of the lower bound in kernels that arithmetic holds up.
        memory_bound_ms: the part of the lower bound in kernels that traffic holds up.
        compute_bound_layers: number of kernels that arithmetic holds up.
        memory_bound_layers: number of kernels that traffic holds up.
    """

    mode: PowerMode
    lower_bound_ms: float
    range_ms: Tuple[float, float]
    compute_bound_ms: float
    memory_bound_ms: float
    compute_bound_layers: int
    memory_bound_layers: int


def estimate_time(workload: Workload, mode: PowerMode) -> Estimate:
    """Return the roofline estimate of an inference in a power mode."""
    times = [layer_times(layer, mode) for layer in workload.layers]
    compute = [compute for compute, memory in times if compute > memory]
    memory = [memory for compute, memory in times if compute <= memory]
    bound = sum(compute) + sum(memory)
    best, worst = EXPECTED_SHARES
    return Estimate(
        mode=mode,
        lower_bound_ms=bound,
        range_ms=(bound / best, bound / worst),
        compute_bound_ms=sum(compute),
        memory_bound_ms=sum(memory),
        compute_bound_layers=len(compute),
        memory_bound_layers=len(memory),
    )


def layer_times(layer: Layer, mode: PowerMode) -> Tuple[float, float]:
    """Return the least milliseconds of a kernel's arithmetic and of its traffic."""
    return 1e3 * 2 * layer.macs / mode.peak(layer.arithmetic), 1e3 * layer.bytes / mode.bandwidth
