"""What to build for: found out about this machine and checked, before anything is read or started."""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path
from typing import Optional, Tuple

import psutil

from adq_edge.core.errors import BuildError
from adq_edge.core.options import Device, Precision, Route, TensorRTOptions
from adq_edge.core.runtimes import TENSORRT, TENSORRT_RTX, Runtime
from adq_edge.hardware.environment import read_environment
from adq_edge.runtimes.tensorrt.job import OwnCalibrator
from adq_edge.runtimes.tensorrt.probe import Probe, probe
from adq_edge.runtimes.tensorrt.release import load_release, version_pair

RTX_COMPUTE_CAPABILITIES = ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")
"""What TensorRT-RTX 1.7 compiles for ahead of time."""

_FIRST_INT8_TENSOR_CORES = (7, 2)
_SHARE_OF_MEMORY = 0.25
_MOST_WORKSPACE_MB = 1024
_LITTLE_MEMORY_MB = 9000
"""A Xavier NX of 8 GB: cuDNN and cuBLAS alone take 1 GB of it while building."""


@dataclasses.dataclass(frozen=True)
class Choice:
    """What is built for, with all defaults filled in; attributes as of `TensorRTOptions` and `Job`."""

    device: Device
    runtime: Runtime
    version: str
    route: Route
    compute_capabilities: Tuple[str, ...]
    dla: Optional[int]
    max_batch: int
    workspace_mb: int
    most_workspace_mb: int
    memory_limit_mb: Optional[int]
    lean: bool
    timing_cache: Optional[Path]

    @property
    def title(self) -> str:
        """What builds, for the screen."""
        return f"{self.runtime.label} {self.version}"


def choose_build(device: Device, precision: Precision, calib: str, options: TensorRTOptions) -> Choice:
    """Find out what is here and choose what was left open.

    Raises:
        BuildError: options that do not go together or that this machine cannot meet.
        EngineError: no GPU that TensorRT can use.
        MissingDependencyError: TensorRT or pycuda is not installed.
    """
    _check_options(device, precision, options)
    if device is Device.RTX:
        return _choose_rtx(precision, calib, options)
    if device is Device.JETSON:
        _check_board()
    load_release()  # says what to install, before a process is started that cannot
    here = probe()
    _check_gpu(here, precision, options)
    route = choose_route(here.version, calib, options)
    memory_mb = here.memory_mb if device is Device.CUDA else psutil.virtual_memory().available / 1e6
    most = max(64, min(_MOST_WORKSPACE_MB, int(memory_mb * _SHARE_OF_MEMORY)))
    return Choice(
        device=device,
        runtime=TENSORRT,
        version=here.version,
        route=route,
        compute_capabilities=(),
        dla=options.dla,
        max_batch=options.max_batch,
        workspace_mb=options.workspace_mb or most,
        most_workspace_mb=max(options.workspace_mb or 0, 2 * most),
        memory_limit_mb=options.memory_limit_mb,
        lean=device is Device.JETSON and here.memory_mb < _LITTLE_MEMORY_MB,
        timing_cache=timing_cache_path(here.version, here.compute_capability),
    )


def _choose_rtx(precision: Precision, calib: str, options: TensorRTOptions) -> Choice:
    version = load_release(TENSORRT_RTX).version
    workspace = options.workspace_mb or _MOST_WORKSPACE_MB
    if options.route not in (None, Route.TYPED):
        raise BuildError(
            f"TensorRT-RTX has no {options.route.value} route",
            fix="Leave --route away: it obeys typed graphs",
        )
    if calib in [own.value for own in OwnCalibrator]:
        raise BuildError(f"TensorRT-RTX has no calibrator {calib!r}", fix="Give --calib lp")
    return Choice(
        device=Device.RTX,
        runtime=TENSORRT_RTX,
        version=version,
        route=Route.TYPED,
        compute_capabilities=tuple(_compute_capability(text) for text in options.compute_capabilities),
        dla=None,
        max_batch=options.max_batch,
        workspace_mb=workspace,
        most_workspace_mb=workspace,
        memory_limit_mb=options.memory_limit_mb,
        lean=True,  # it has neither cuDNN nor cuBLAS
        timing_cache=None,
    )


def _check_options(device: Device, precision: Precision, options: TensorRTOptions) -> None:
    if options.compute_capabilities and device is not Device.RTX:
        raise BuildError("--sm is for --device rtx only", fix="TensorRT builds for the GPU that is here")
    if options.dla is not None and device is not Device.JETSON:
        raise BuildError(
            f"--device {device.value} has no DLA", fix="Give --device jetson, or leave --dla away"
        )
    if options.dla is not None and precision is Precision.FP32:
        raise BuildError("DLA computes in FP16 and INT8 only", fix="Give --fp16 or --int8")
    if options.dla is not None and options.route not in (None, Route.IMPLICIT):
        raise BuildError("DLA reads no Q/DQ pairs", fix="Leave --route away, or give --route implicit")
    if options.dla is not None and options.max_batch > 1:
        raise BuildError("DLA takes one size of batch only", fix="Leave --max-batch away")
    if device is Device.RTX and not options.compute_capabilities and not Path("/proc/driver/nvidia").exists():
        raise BuildError(
            "there is no NVIDIA GPU here to compile for",
            fix=f"Name one: --sm 86; there are {_known()}",
        )


def _compute_capability(text: str) -> str:
    """Return "8.6" for "86", "8.6" or "sm_86"."""
    found = re.fullmatch(r"(?:sm_?)?(\d+)\.?(\d)", text.strip().lower())
    name = f"{found.group(1)}.{found.group(2)}" if found else text
    if name not in RTX_COMPUTE_CAPABILITIES:
        raise BuildError(f"TensorRT-RTX does not compile for --sm {text}", fix=f"There are: {_known()}")
    return name


def _known() -> str:
    return ", ".join(name.replace(".", "") for name in RTX_COMPUTE_CAPABILITIES)


def _check_board() -> None:
    board = read_environment().board
    if not is_jetson(board):
        raise BuildError(
            f"this machine is no Jetson ({board or 'no board name in its device tree'})",
            fix="Run adq-edge on the board, or give --device cpu, cuda or rtx",
        )


def is_jetson(board: Optional[str]) -> bool:
    """Return True if a board's name is that of a Jetson."""
    return board is not None and "jetson" in board.lower()


def _check_gpu(here: Probe, precision: Precision, options: TensorRTOptions) -> None:
    capability = version_pair(here.compute_capability)
    if precision is Precision.INT8 and capability < _FIRST_INT8_TENSOR_CORES:
        raise BuildError(
            f"{here.gpu} (compute capability {here.compute_capability}) has no INT8 tensor cores",
            fix="Build with --fp16",
        )
    if options.dla is not None and options.dla >= here.dla_cores:
        raise BuildError(
            f"{here.gpu} has {here.dla_cores} DLA cores, there is no core {options.dla}",
            fix="Leave --dla away" if not here.dla_cores else "Give --dla 0",
        )


def choose_route(version: str, calib: str, options: TensorRTOptions) -> Route:
    """Choose by the release: 8.5's explicit route is fragile on Volta, 11 knows nothing but types.

    Raises:
        BuildError: the release cannot do what is asked for.
    """
    release = version_pair(version)
    own = calib in [known.value for known in OwnCalibrator]
    if release >= (11, 0):
        if own or options.dla is not None or options.route not in (None, Route.TYPED):
            raise BuildError(
                f"TensorRT {version} has neither implicit quantization nor calibrators of its own",
                fix="Leave --route, --dla and trt- calibrators away",
            )
        return Route.TYPED
    if options.route is Route.TYPED and release < (10, 0):
        raise BuildError(f"TensorRT {version} has no typed networks", fix="Leave --route away")
    if options.route is not None:
        return options.route
    if own or options.dla is not None or release < (8, 6):
        return Route.IMPLICIT
    return Route.EXPLICIT


def timing_cache_path(version: str, compute_capability: str) -> Path:
    """Return where the timings of kernels are kept between builds: they hold for one release on one GPU."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "adq-edge"
    return root / f"timing-{version}-sm{compute_capability.replace('.', '')}.cache"
