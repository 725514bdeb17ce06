"""List the GPUs that the CUDA driver can use; as a program, print them as one line of JSON.

A separate process, because an unsuitable driver may hang or crash its caller. It imports nothing from
adq-edge and needs no CUDA toolkit.
"""

from __future__ import annotations

import ctypes
import json
import sys
from typing import Any, Dict

_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*
_NAME_BYTES = 256


def probe() -> Dict[str, Any]:
    """Return `{"devices": [{"name", "compute_capability", "memory_mb"}]}` or `{"error": REASON}`."""
    library = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        cuda = ctypes.CDLL(library)
    except OSError as error:
        return {"error": str(error)}
    count = ctypes.c_int()
    code = cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count))
    if code:
        return {"error": f"{_error_text(cuda, code)} (CUDA error {code})"}
    return {"devices": [_device(cuda, ordinal) for ordinal in range(count.value)]}


def _error_text(cuda: Any, code: int) -> str:
    text = ctypes.c_char_p()
    cuda.cuGetErrorString(code, ctypes.byref(text))
    return (text.value or b"unknown error").decode("utf-8", errors="replace")


def _device(cuda: Any, ordinal: int) -> Dict[str, Any]:
    device, name = ctypes.c_int(), ctypes.create_string_buffer(_NAME_BYTES)
    cuda.cuDeviceGet(ctypes.byref(device), ordinal)
    cuda.cuDeviceGetName(name, _NAME_BYTES, device)
    total_bytes = ctypes.c_size_t()
    cuda.cuDeviceTotalMem_v2(ctypes.byref(total_bytes), device)
    capability = [_attribute(cuda, number, device) for number in (_CAPABILITY_MAJOR, _CAPABILITY_MINOR)]
    return {
        "name": name.value.decode("utf-8", errors="replace"),
        "compute_capability": ".".join(map(str, capability)),
        "memory_mb": total_bytes.value / 1e6,
    }


def _attribute(cuda: Any, attribute: int, device: ctypes.c_int) -> int:
    value = ctypes.c_int()
    cuda.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
    return value.value


if __name__ == "__main__":
    print(json.dumps(probe()))
