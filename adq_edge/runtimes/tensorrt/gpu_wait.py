"""How a thread waits for the GPU: it spins on a CPU core, or it sleeps until the GPU has finished.

CUDA chooses by itself, and on a Jetson in a low power mode it sleeps, which adds the time to wake up to each
query. The choice belongs to the primary context of a GPU, and counts before the context exists. pycuda has
no call for it.
"""

from __future__ import annotations

import ctypes
import enum
import os
import sys
from typing import Any

from adq_edge.core.errors import EngineError

WAIT_VARIABLE = "ADQ_EDGE_GPU_WAIT"


class Wait(str, enum.Enum):
    """The values of ADQ_EDGE_GPU_WAIT."""

    AUTO = "auto"
    SPIN = "spin"
    BLOCK = "block"


_SCHEDULES = {Wait.SPIN: 1, Wait.BLOCK: 4}  # CU_CTX_SCHED_SPIN, CU_CTX_SCHED_BLOCKING_SYNC
_is_set = False


def chosen_wait() -> Wait:
    """Return how to wait for the GPU, by ADQ_EDGE_GPU_WAIT.

    Raises:
        EngineError: the variable has another value.
    """
    written = os.environ.get(WAIT_VARIABLE) or Wait.AUTO.value
    try:
        return Wait(written)
    except ValueError:
        fix = f"Use one of: {', '.join(wait.value for wait in Wait)}"
        raise EngineError(
            f"{written!r} is no way to wait for the GPU", where=WAIT_VARIABLE, fix=fix
        ) from None


def set_wait(device: int) -> None:
    """Set how this process waits for a GPU; the first call counts, which must come before the CUDA context.

    Args:
        device: number of the GPU; CUDA must be initialized.

    Raises:
        EngineError: the choice is not possible.
    """
    global _is_set
    wait = chosen_wait()
    if wait is Wait.AUTO or _is_set:
        return
    code = _set_schedule(device, _SCHEDULES[wait])
    if code:
        what = f"CUDA does not take the choice to {wait.value} (error {code})"
        fix = f"Load the engine before other libraries use the GPU, or unset {WAIT_VARIABLE}"
        raise EngineError(what, where=WAIT_VARIABLE, fix=fix)
    _is_set = True


def _set_schedule(device: int, schedule: int) -> int:
    """Set the flags of the primary context of a GPU; return CUDA's error code, 0 for none."""
    try:
        driver: Any = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        handle = ctypes.c_int()
        return int(
            driver.cuDeviceGet(ctypes.byref(handle), device)
            or driver.cuDevicePrimaryCtxSetFlags_v2(handle, ctypes.c_uint(schedule))
        )
    except (OSError, AttributeError) as error:
        raise EngineError(f"the CUDA driver cannot be used ({error})", where=WAIT_VARIABLE) from error
