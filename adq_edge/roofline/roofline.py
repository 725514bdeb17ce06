"""The roofline estimate: a kernel takes at least its arithmetic time and its memory traffic time.

    t >= max(2 * MACs / peak(arithmetic), bytes / bandwidth)        Williams et al., "Roofline", CACM 2009

Kernels run in sequence, so an inference takes at least the sum of their times. The estimate ignores
elementwise arithmetic, kernel launches, and cache hits between kernels. No engine reaches the board's peaks:
NVIDIA's INT8 ResNet-50 reaches about 30 % on a Xavier NX (jetson_benchmarks: 824 images per second on GPU and
DLAs). Tensor cores usually reach 25 to 50 %, hence the range; FP32 can reach more.
"""

from __future__ import annotations

import dataclasses
from typing import Tuple

from adq_edge.roofline.workload import Layer, Workload
from adq_edge.roofline.xavier_nx import PowerMode

EXPECTED_SHARES = (0.5, 0.25)
"""Expected fractions of the peaks, the best first."""


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Estimate, not measurement, of one inference in one power mode.

    Attributes:
        mode: the power mode.
        lower_bound_ms: latency at 100 % of the peaks in ms.
        range_ms: latency at 50 % and at 25 % of the peaks in ms.
        compute_bound_ms: part of the lower bound in kernels that are limited by arithmetic, in ms.
        memory_bound_ms: part of the lower bound in kernels that are limited by traffic, in ms.
        compute_bound_layers: number of kernels that are limited by arithmetic.
        memory_bound_layers: number of kernels that are limited by traffic.
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
    """Return the minimum durations of a kernel's arithmetic and of its traffic in ms."""
    return 1e3 * 2 * layer.macs / mode.peak(layer.arithmetic), 1e3 * layer.bytes / mode.bandwidth
