"""The choices that users name, with their defaults; light, so that `--help` imports nothing heavy."""

from __future__ import annotations

import dataclasses
import enum
import platform
import re
from pathlib import Path
from typing import Optional, Tuple, Type, TypeVar, Union

from adq_edge.core.errors import AdqError

DEFAULT_CALIBRATOR = "lp"
DEFAULT_SAMPLES = 300
DEFAULT_SOURCE = "images"


class Precision(str, enum.Enum):
    """The number format of an engine's networks; the scoring is float32 in all of them."""

    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"


class Device(str, enum.Enum):
    """The devices that engines can be built for."""

    CPU = "cpu"
    JETSON = "jetson"
    """The Jetson that this runs on, with its own TensorRT."""
    CUDA = "cuda"
    """The NVIDIA GPU of this machine, with TensorRT."""
    RTX = "rtx"
    """A GeForce or RTX GPU, compiled ahead of time by TensorRT-RTX; none need be here."""


CARD_DEVICES = (Device.CUDA, Device.RTX)
"""Those whose engines run on a graphics card, if this is a PC."""


class Scenario(str, enum.Enum):
    """What `bench` measures, by MLPerf's names."""

    SINGLE_STREAM = "single-stream"
    """Latency: one query after another at batch 1; and an image's way end to end, by stage."""
    OFFLINE = "offline"
    """Throughput: batch sizes and parallel streams, until it stops rising."""


class Arithmetic(str, enum.Enum):
    """The kinds of integer arithmetic that a model can be trained for."""

    CPU = "cpu"
    """Of CPUs: activations with a zero point."""
    TENSORRT = "tensorrt"
    """Of the TensorRT family: symmetric activations."""


class Route(str, enum.Enum):
    """Who decides which number format a layer of a TensorRT engine computes in."""

    TYPED = "typed"
    """The graph: every tensor has its type, and TensorRT obeys; the only route of 11 and of RTX."""
    EXPLICIT = "explicit"
    """Q/DQ pairs say where integers are, TensorRT decides the rest within the precisions allowed."""
    IMPLICIT = "implicit"
    """TensorRT, wherever a tensor has a dynamic range; the only route of DLA."""


class Target(str, enum.Enum):
    """A kind of machine, by the integer arithmetic its kernels want."""

    X86 = "x86"
    """Unsigned activations with a zero point, signed weights: what VNNI's u8 x s8 dot product wants."""
    ARM = "arm"
    """Signed activations with a zero point, signed weights: what Arm's dot product wants."""
    TENSORRT = "tensorrt"
    """Signed symmetric activations and weights: the only form TensorRT knows."""


def cpu_target(machine: Optional[str] = None) -> Target:
    """Return the integer arithmetic that a CPU wants.

    Args:
        machine: its architecture, as `platform.machine` says it; this machine's by default.
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


Choice = TypeVar("Choice", bound=enum.Enum)


def choose(kind: Type[Choice], value: Union[Choice, str]) -> Choice:
    """Return the choice that a notebook named, as the enum or as its string.

    Raises:
        AdqError: no such choice.
    """
    try:
        return kind(value)
    except ValueError:
        names = ", ".join(str(item.value) for item in kind)
        what = re.sub("(?<!^)(?=[A-Z])", " ", kind.__name__).lower()
        raise AdqError(f"{value!r} is no {what}", fix=f"There are: {names}") from None
