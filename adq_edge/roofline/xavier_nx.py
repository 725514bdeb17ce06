"""Jetson Xavier NX: peak arithmetic of its GPU and peak bandwidth of its memory in each power mode.

GPU (NVIDIA, Jetson Xavier NX datasheet): Volta, sm_72, 384 CUDA cores and 48 tensor cores.
Operations per second at the clock f in Hz:

    FP32   2 *  384 * f       one multiply-add, which is two operations, per core and cycle
    FP16   2 *   64 * 48 * f  64 multiply-adds per tensor core and cycle (NVIDIA, Volta whitepaper)
    INT8   2 *  128 * 48 * f  twice as many on sm_72 (NVIDIA: the 64 tensor cores of an AGX Xavier reach
                              11 TFLOPS in FP16 and 22 TOPS in INT8 at 1377 MHz)

Memory (datasheet): 128-bit LPDDR4x with two transfers per cycle, 2 * 16 bytes * f: 59.7 GB/s at 1866 MHz.

Modes: the stock /etc/nvpmodel.conf of L4T R35 for module p3668; boards with a changed file differ.
At 20 W the memory runs at 1866 MHz, in all other modes at 1600 MHz. The GPU runs at 1109.25 MHz at
15 W and 20 W, at 803.25 MHz at 10 W, and at 510 MHz in the 10 W desktop mode. CPU cores have no influence.

The two DLA cores are not included. With them NVIDIA states 21 TOPS instead of the 13.6 of the tensor cores.
"""

from __future__ import annotations

import dataclasses
from typing import Mapping

from adq_edge.core.options import Precision

BOARD = "Jetson Xavier NX"

_CUDA_CORES = 384
_TENSOR_CORES = 48
_BUS_BYTES = 128 // 8
_TRANSFERS_PER_CYCLE = 2

_MACS_PER_CYCLE: Mapping[Precision, int] = {
    Precision.FP32: _CUDA_CORES,
    Precision.FP16: 64 * _TENSOR_CORES,
    Precision.INT8: 128 * _TENSOR_CORES,
}


@dataclasses.dataclass(frozen=True)
class PowerMode:
    """A power mode of the board.

    Attributes:
        number: its id, as printed by `nvpmodel -q`.
        name: its name.
        gpu_mhz: maximum GPU clock in MHz.
        memory_mhz: maximum memory (EMC) clock in MHz.
    """

    number: int
    name: str
    gpu_mhz: float
    memory_mhz: float

    def peak(self, arithmetic: Precision) -> float:
        """Return the peak operations per second in a number format; a multiply-add is two operations."""
        return 2 * _MACS_PER_CYCLE[arithmetic] * self.gpu_mhz * 1e6

    @property
    def bandwidth(self) -> float:
        """Peak bytes per second between GPU and memory."""
        return _TRANSFERS_PER_CYCLE * _BUS_BYTES * self.memory_mhz * 1e6


MODES = (
    PowerMode(0, "MODE_15W_2CORE", 1109.25, 1600),
    PowerMode(1, "MODE_15W_4CORE", 1109.25, 1600),
    PowerMode(2, "MODE_15W_6CORE", 1109.25, 1600),
    PowerMode(3, "MODE_10W_2CORE", 803.25, 1600),
    PowerMode(4, "MODE_10W_4CORE", 803.25, 1600),
    PowerMode(5, "MODE_10W_DESKTOP", 510, 1600),
    PowerMode(6, "MODE_20W_2CORE", 1109.25, 1866),
    PowerMode(7, "MODE_20W_4CORE", 1109.25, 1866),
    PowerMode(8, "MODE_20W_6CORE", 1109.25, 1866),
)
