"""The instruction sets of a CPU that decide the speed of INT8, and their effect on this machine.

The factors are estimates. They follow from what the instructions do: the multiply-adds in each. As factors of
a model's speed they are upper bounds, because memory and the float parts of a model take time too.
"""

from __future__ import annotations

import dataclasses
from typing import Collection, Optional, Tuple

from adq_edge.hardware.bfloat16 import INSTRUCTION_SETS

_UNKNOWN = "the system does not list the instruction sets"
_SATURATION = "sums of two products may saturate at 16 bits: check the quality here with adq-edge eval"


@dataclasses.dataclass(frozen=True)
class Int8Instructions:
    """An instruction set that affects INT8, or the absence of one.

    Attributes:
        name: the usual name, such as `VNNI`.
        present: whether every core has it; None if unknown.
        meaning: what its presence or absence means for INT8 engines on this CPU.
    """

    name: str
    present: Optional[bool]
    meaning: str


def int8_instructions(architecture: str, flags: Collection[str]) -> Tuple[Int8Instructions, ...]:
    """Return the instruction sets that matter for INT8 on a CPU; empty if it is neither x86 nor Arm.

    Args:
        architecture: a value of `platform.machine`.
        flags: names of instruction sets as in /proc/cpuinfo; empty if unknown.
    """
    name = architecture.lower()
    if name in ("x86_64", "amd64", "i686", "x86"):
        return _x86(frozenset(flags))
    return _arm(frozenset(flags)) if name in ("aarch64", "arm64") else ()


def _x86(flags: Collection[str]) -> Tuple[Int8Instructions, ...]:
    amx, avx512, avx2 = "amx_int8" in flags, "avx512f" in flags, "avx2" in flags
    vnni = bool({"avx512_vnni", "avx_vnni"}.intersection(flags))
    return (
        _row(
            *("AMX", flags, amx),
            "multiplies 16x64 by 64x16 INT8 tiles in one instruction: up to 8 times VNNI, for large layers",
            "INT8 uses VNNI" if vnni else "INT8 uses vector instructions",
        ),
        _row(
            *("VNNI", flags, vnni),
            "one instruction adds 4 INT8 products to each 32-bit sum: up to 4 times the arithmetic of FP32",
            f"three instructions do the work of one: INT8 gains less than with VNNI; {_SATURATION}",
        ),
        _row(
            *("AVX-512", flags, avx512),
            "vectors of 512 bits: twice the INT8 and FP32 values of AVX2 in each instruction",
            "vectors of 256 bits" if avx2 else "vectors of 128 bits",
        ),
        _row(
            *("AVX2", flags, avx2),
            "vectors of 256 bits, the least for which the runtimes have fast INT8 kernels",
            "the runtimes have no fast INT8 kernels for this CPU: expect INT8 to be slower than FP32",
        ),
        _row(
            *("BF16", flags, any(name in flags for name in INSTRUCTION_SETS)),
            "bfloat16 products: if INT8 loses too much, build with --bf16 --runtime openvino",
            "no bfloat16 products: build --bf16 is refused",
        ),
    )


def _arm(flags: Collection[str]) -> Tuple[Int8Instructions, ...]:
    i8mm, dotprod, half = "i8mm" in flags, "asimddp" in flags, "asimdhp" in flags
    return (
        _row(
            *("i8mm", flags, i8mm),
            "multiplies 2x8 by 8x2 INT8 blocks in one instruction: up to twice dotprod",
            "INT8 uses dotprod" if dotprod else "INT8 uses plain NEON instructions",
        ),
        _row(
            *("dotprod", flags, dotprod),
            "one instruction adds 16 INT8 products to 4 sums: up to 4 times the arithmetic of FP32",
            "INT8 values are widened to 16 bits first: INT8 gains less than with dotprod",
        ),
        _row(
            *("FP16", flags, half),
            "float16 arithmetic; no effect on INT8, whose scoring is float32",
            "no float16 arithmetic; no effect on INT8, whose scoring is float32",
        ),
    )


def _row(name: str, flags: Collection[str], present: bool, meaning: str, absence: str) -> Int8Instructions:
    if not flags:
        return Int8Instructions(name, None, _UNKNOWN)
    return Int8Instructions(name, present, meaning if present else absence)
