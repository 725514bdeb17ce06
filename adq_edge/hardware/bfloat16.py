"""Whether this machine's processor computes in bfloat16."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Optional

from adq_edge.hardware.environment import read_cpu

INSTRUCTION_SETS = ("avx512_bf16", "amx_bf16")
"""The x86 instruction sets with bfloat16 products; either is enough."""
BUILD_WITHOUT_BFLOAT16 = "Build another engine: adq-edge build BUNDLE --int8, or --fp32"
"""What to do with a bf16 engine that cannot be loaded."""


def why_no_bfloat16(root: Path = Path("/"), architecture: Optional[str] = None) -> Optional[str]:
    """Return why engines cannot compute in bfloat16 here; None if they can.

    OpenVINO has bfloat16 convolutions for x86 alone.

    Args:
        root: for tests: a fake file tree.
        architecture: a value of `platform.machine`; that of this machine by default.
    """
    cpu = read_cpu(root)
    architecture = platform.machine() if architecture is None else architecture
    has_instructions = any(name in cpu.instruction_sets for name in INSTRUCTION_SETS)
    if has_instructions and architecture.lower() in ("x86_64", "amd64"):
        return None
    return f"the processor ({cpu.model or architecture}) has none of {' and '.join(INSTRUCTION_SETS)}"
