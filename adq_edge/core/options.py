"""The options of users and their defaults; without large imports, for a fast `--help`."""

from __future__ import annotations

import dataclasses
import enum
import platform
import re
from pathlib import Path
from typing import Optional, Tuple, Type, TypeVar, Union

from adq_edge.core.errors import AdqError

DEFAULT_CALIBRATOR = "lp"
FP8_CALIBRATOR = "percentile:100"
"""The default of FP8: the exact extremes, because FP8 gains nothing from a clipped range."""
DEFAULT_SAMPLES = 300
DEFAULT_SOURCE = "images"


class Precision(str, enum.Enum):
    """The number format of the networks in an engine; the scoring is always float32."""

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"
    """On x86 processors with bfloat16 instructions only, by OpenVINO."""
    INT8 = "int8"
    FP8 = "fp8"
    """E4M3 numbers: by TensorRT 10 or later on GPUs of compute capability 8.9 or later."""


COMMON_PRECISIONS = (Precision.FP32, Precision.FP16, Precision.INT8)
"""The precisions of every device."""

CALIBRATED_PRECISIONS = (Precision.INT8, Precision.FP8)
"""The precisions that need the ranges of activations."""


class Sparsity(str, enum.Enum):
    """The patterns of weights that are zero."""

    TWO_OF_FOUR = "2:4"
    """Two of four consecutive input channels: by TensorRT on GPUs of compute capability 8.0 or later."""

    @property
    def file_name(self) -> str:
        """The name in file names."""
        return str(self.value).replace(":", "of")


class Device(str, enum.Enum):
    """The devices that run engines."""

    CPU = "cpu"
    JETSON = "jetson"
    """This Jetson, with the TensorRT of its JetPack."""
    CUDA = "cuda"
    """The NVIDIA GPU of this machine, with TensorRT."""
    RTX = "rtx"
    """A GeForce or RTX GPU with TensorRT-RTX; engines are compiled ahead of time, without a GPU."""


CARD_DEVICES = (Device.CUDA, Device.RTX)
"""The devices that are graphics cards of a PC."""


class Scenario(str, enum.Enum):
    """The scenarios of `bench`, by MLPerf's names."""

    SINGLE_STREAM = "single-stream"
    """Latency: one query after another with one image each, and one image from file to result, by stage."""
    OFFLINE = "offline"
    """Throughput: increasing batch sizes and numbers of parallel streams, until it stops rising."""


class Arithmetic(str, enum.Enum):
    """The kinds of integer arithmetic in quantization-aware training."""

    CPU = "cpu"
    """CPUs: activations with a zero point."""
    TENSORRT = "tensorrt"
    """TensorRT and TensorRT-RTX: symmetric activations."""


class Route(str, enum.Enum):
    """How TensorRT chooses the number format of each layer."""

    TYPED = "typed"
    """Strongly typed: the graph has the type of every tensor; the only route of TensorRT 11 and RTX."""
    EXPLICIT = "explicit"
    """Explicit quantization: Q/DQ pairs mark the integer layers; TensorRT chooses the other formats."""
    IMPLICIT = "implicit"
    """Implicit quantization: TensorRT chooses INT8 for tensors with a range; the only route of DLA."""


class Target(str, enum.Enum):
    """The integer arithmetic of a kind of machine."""

    X86 = "x86"
    """Unsigned activations with a zero point, signed weights, for the u8 x s8 dot product of VNNI."""
    ARM = "arm"
    """Signed activations with a zero point, signed weights, for the dot product of Arm."""
    TENSORRT = "tensorrt"
    """Signed symmetric activations and weights, the only form that TensorRT supports."""


class ThresholdRule(str, enum.Enum):
    """The rules that choose a product's threshold."""

    FALSE_REJECTS = "false-rejects"
    """The share of good parts that may be rejected; needs no defective image."""
    F1 = "f1"
    """The highest F1 on labeled images."""
    COST = "cost"
    """The lowest cost of missed defects and rejected good parts on labeled images."""


def cpu_target(machine: Optional[str] = None) -> Target:
    """Return the integer arithmetic of a CPU.

    Args:
        machine: its architecture, a value of `platform.machine`; that of this machine by default.
    """
    name = platform.machine() if machine is None else machine
    return Target.ARM if name.lower() in ("aarch64", "arm64") else Target.X86


@dataclasses.dataclass(frozen=True)
class TensorRTOptions:
    """Options of `build` for the TensorRT family.

    Attributes:
        compute_capabilities: GPUs to compile for with TensorRT-RTX, such as "86" or "8.6"; the local GPU if
            empty.
        route: what decides on the number format of a layer; chosen by the TensorRT release if None.
        dla: number of the DLA core to run on; None for the GPU.
        max_batch: the largest number of images in one inference request.
        workspace_mb: memory that a kernel may use while it runs, in MB (10^6 bytes).
        memory_limit_mb: memory at which the builder process is ended, in MB (10^6 bytes).
    """

    compute_capabilities: Tuple[str, ...] = ()
    route: Optional[Route] = None
    dla: Optional[int] = None
    max_batch: int = 1
    workspace_mb: Optional[int] = None
    memory_limit_mb: Optional[int] = None


@dataclasses.dataclass(frozen=True)
class BuildOptions:
    """Options of `adq_edge.build`, which documents each of them."""

    precision: Precision = Precision.INT8
    calib: Optional[str] = None
    calib_data: Optional[Union[str, Path]] = None
    source: str = DEFAULT_SOURCE
    samples: int = DEFAULT_SAMPLES
    max_drop: Optional[float] = None
    plan: Optional[Union[str, Path]] = None
    data: Optional[Union[str, Path]] = None
    keep_nearest: bool = False
    device: Optional[Device] = None
    runtime: Optional[str] = None
    threads: Optional[int] = None
    tensorrt: TensorRTOptions = TensorRTOptions()
    sparsity: Optional[Sparsity] = None


Choice = TypeVar("Choice", bound=enum.Enum)


def choose(kind: Type[Choice], value: Union[Choice, str]) -> Choice:
    """Return a member of an enumeration, given as the member or its value.

    Raises:
        AdqError: there is no such member.
    """
    try:
        return kind(value)
    except ValueError:
        names = ", ".join(str(item.value) for item in kind)
        what = re.sub("(?<!^)(?=[A-Z])", " ", kind.__name__).lower()
        raise AdqError(f"{value!r} is not a valid {what}", fix=f"Use one of: {names}") from None
