"""Ask the CUDA driver which GPUs this process may use: run as a program, it prints one line of JSON.

A program of its own, because a driver that does not fit the machine may hang or crash whoever asks it. It
imports nothing of adq-edge and needs no CUDA toolkit.
"""

from __future__ import annotations

import ctypes
import json
import sys
from typing import Any, Dict, List

_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*
_NAME_BYTES = 256


def probe() -> Dict[str, Any]:
    """Return `{"devices": [{"name", "compute_capability", "memory_mb"}]}`, or `{"error": why not}`."""
    library = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        cuda = ctypes.CDLL(library)
    except OSError as error:
        return {"error": str(error)}
    count = ctypes.c_int()
    code = cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count))
    if code:
        return {"error": f"{_explain(cuda, code)} (CUDA error {code})"}
    return {"devices": [_device(cuda, ordinal) for ordinal in range(count.value)]}


def _explain(cuda: Any, code: int) -> str:
    text = ctypes.c_char_p()
    cuda.cuGetErrorString(code, ctypes.byref(text))
    return (text.value or b"unknown error").decode("utf-8", errors="replace")


def _device(cuda: Any, ordinal: int) -> Dict[str, Any]:
    device, name = ctypes.c_int(), ctypes.create_string_buffer(_NAME_BYTES)
    numbers: List[int] = []
    cuda.cuDeviceGet(ctypes.byref(device), ordinal)
    cuda.cuDeviceGetName(name, _NAME_BYTES, device)
    for attribute in (_CAPABILITY_MAJOR, _CAPABILITY_MINOR):
        number = ctypes.c_int()
        cuda.cuDeviceGetAttribute(ctypes.byref(number), attribute, device)
        numbers.append(number.value)
    total_bytes = ctypes.c_size_t()
    cuda.cuDeviceTotalMem_v2(ctypes.byref(total_bytes), device)
    return {
        "name": name.value.decode("utf-8", errors="replace"),
        "compute_capability": ".".join(map(str, numbers)),
        "memory_mb": total_bytes.value / 1e6,
    }


if __name__ == "__main__":
    print(json.dumps(probe()))
