"""The roofline of an inference: what a board needs at least, and what TensorRT is expected to need.

Lower bound, kernel by kernel (Williams et al., "Roofline", CACM 2009):

    t >= max(2 * MACs / peak(arithmetic), bytes / bandwidth)

Expected latency, with the shares of `efficiency`, which were fitted on published measurements:

    t = max(2 * MACs / (share * peak), bytes / (share * bandwidth)) + time of a kernel

Kernels run in sequence, so an inference takes the sum of their times. That is the GPU's time of a query: the
time of the CPU and of copies comes on top. Cache hits between kernels and the arithmetic of elementwise
operators are not modeled.
"""

from __future__ import annotations

import dataclasses
from typing import Optional, Tuple

from adq_edge.hardware.boards import Board, BoardMode
from adq_edge.roofline.efficiency import BAND, FITTED, Efficiency
from adq_edge.roofline.workload import Layer, Workload


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Estimate, not measurement, of one inference in one power mode.

    Attributes:
        mode: the power mode.
        lower_bound_ms: latency at 100 % of the peaks in ms.
        range_ms: shortest and longest expected latency in ms. Before adq-edge 0.2: latency at 50 % and at
            25 % of the peaks.
        compute_bound_ms: part of the lower bound in kernels that are limited by arithmetic, in ms.
        memory_bound_ms: part of the lower bound in kernels that are limited by traffic, in ms.
        compute_bound_layers: number of kernels that are limited by arithmetic.
        memory_bound_layers: number of kernels that are limited by traffic.
        expected_ms: expected latency in ms; None before adq-edge 0.2.
        kernels_ms: part of the expected latency: the number of kernels times the time of a kernel, in ms;
            None before adq-edge 0.2.
    """

    mode: BoardMode
    lower_bound_ms: float
    range_ms: Tuple[float, float]
    compute_bound_ms: float
    memory_bound_ms: float
    compute_bound_layers: int
    memory_bound_layers: int
    expected_ms: Optional[float] = None
    kernels_ms: Optional[float] = None


def estimate_time(workload: Workload, board: Board, mode: BoardMode) -> Estimate:
    """Return the estimate of an inference on a board in a power mode."""
    times = [layer_times(layer, board, mode) for layer in workload.layers]
    compute = [compute for compute, memory in times if compute > memory]
    memory = [memory for compute, memory in times if compute <= memory]
    expected = expected_ms(workload, board, mode)
    low, high = BAND
    return Estimate(
        mode=mode,
        lower_bound_ms=sum(compute) + sum(memory),
        range_ms=(expected * low, expected * high),
        compute_bound_ms=sum(compute),
        memory_bound_ms=sum(memory),
        compute_bound_layers=len(compute),
        memory_bound_layers=len(memory),
        expected_ms=expected,
        kernels_ms=len(times) * FITTED.kernel_us / mode.gpu_mhz,
    )


def layer_times(layer: Layer, board: Board, mode: BoardMode) -> Tuple[float, float]:
    """Return the minimum durations of a kernel's arithmetic and of its traffic in ms."""
    arithmetic_ms = 1e3 * 2 * layer.macs / board.peak(mode, layer.arithmetic.value)
    return arithmetic_ms, 1e3 * layer.bytes / board.bandwidth(mode)


def expected_ms(
    workload: Workload, board: Board, mode: BoardMode, efficiency: Efficiency = FITTED, *, tf32: bool = False
) -> float:
    """Return the expected latency in ms.

    Args:
        tf32: compute float32 convolutions in TF32, as TensorRT does by default. adq-edge builds without it.
    """
    formats = {"fp32": "tf32"} if tf32 and "tf32" in board.chip.macs else {}
    names = (layer.arithmetic.value for layer in workload.layers)
    return sum(
        efficiency.layer_ms(layer, board, mode, formats.get(name, name))
        for layer, name in zip(workload.layers, names)
    )
