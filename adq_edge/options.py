"""The choices that users name, with their defaults; light, so that `--help` imports nothing heavy."""

from __future__ import annotations

import enum

DEFAULT_CALIBRATOR = "mse"
DEFAULT_SAMPLES = 300


class Precision(str, enum.Enum):
    """The number format of an engine's networks; the scoring is float32 in all of them."""

    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"


class Device(str, enum.Enum):
    """The devices that engines can be built for."""

    CPU = "cpu"


class RuntimeName(str, enum.Enum):
    """The runtimes that engines can be built for and run with."""

    ONNXRUNTIME = "onnxruntime"
    OPENVINO = "openvino"
