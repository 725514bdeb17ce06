"""Settings of a TensorRT build: the user's options, checked on this machine and completed."""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path
from typing import Optional, Tuple

from adq_edge.core.errors import BuildError
from adq_edge.core.options import Device, Precision, Route, Sparsity, TensorRTOptions
from adq_edge.core.runtimes import TENSORRT, TENSORRT_EMULATION, TENSORRT_RTX, Runtime
from adq_edge.core.text import number_of
from adq_edge.hardware.board_state import BoardState, read_board_state
from adq_edge.hardware.jetson import read_jetson
from adq_edge.hardware.memory import usable_memory_mb
from adq_edge.runtimes.tensorrt.job import OwnCalibrator
from adq_edge.runtimes.tensorrt.probe import Probe, probe
from adq_edge.runtimes.tensorrt.release import load_release, version_pair

RTX_COMPUTE_CAPABILITIES = ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")
"""Compute capabilities that TensorRT-RTX 1.7 compiles for ahead of time."""

_FIRST_INT8_TENSOR_CORES = (7, 2)
_FIRST_TYPED_DLA = (11, 4)
_FIRST_SPARSE_TENSOR_CORES = (8, 0)
_FIRST_FP8_TENSOR_CORES = (8, 9)
_FIRST_FP8_RELEASE = (10, 0)
_MEASURE_COST = f"To measure what it would cost: --device cpu --runtime {TENSORRT_EMULATION.name}"
_NO_PAIRS, _OMIT_ROUTE = "DLA reads no Q/DQ pairs", "Omit --route, or give --route implicit"
_SHARE_OF_MEMORY = 0.25
_LEAST_WORKSPACE_MB, _MOST_WORKSPACE_MB = 64, 1024
_LONGEST_MODE = 40  # letters of a power mode in a file name
_LITTLE_MEMORY_MB = 9000
"""Below this (such as a Xavier NX with 8 GB), a build omits cuDNN and cuBLAS, which take 1 GB."""


@dataclasses.dataclass(frozen=True)
class TensorRTSettings:
    """Settings of a TensorRT build.

    Attributes:
        device: the device.
        runtime: TensorRT or TensorRT-RTX.
        version: the runtime's version.
        route: the method that sets the number format of each layer.
        options: the user's options, with compute capabilities such as "8.6".
        workspace_mb: memory that a kernel may use while it runs, in MB (10^6 bytes).
        most_workspace_mb: upper limit of `workspace_mb` in later attempts, in MB.
        lean: True to build without cuDNN and cuBLAS.
        timing_cache: file with the measured kernel times.
        calibration_cache: True to pass the ranges by a calibration cache too.
        board: power mode and clocks of a Jetson before the build; None on other machines.
    """

    device: Device
    runtime: Runtime
    version: str
    route: Route
    options: TensorRTOptions
    workspace_mb: int
    most_workspace_mb: int
    lean: bool
    timing_cache: Optional[Path] = None
    calibration_cache: bool = False
    board: Optional[BoardState] = None


def choose_settings(
    device: Device,
    precision: Precision,
    calib: str,
    options: TensorRTOptions,
    sparsity: Optional[Sparsity] = None,
) -> TensorRTSettings:
    """Check the options of a build on this machine and choose the unset ones.

    Raises:
        BuildError: options contradict each other or do not suit this machine.
        EngineError: no GPU that TensorRT can use.
        MissingDependencyError: TensorRT or pycuda is not installed.
    """
    _check_options(device, precision, options)
    if precision is Precision.FP8:
        options = dataclasses.replace(options, route=Route.TYPED)
    if device is Device.RTX:
        settings = _choose_rtx(calib, options)
        for capability in settings.options.compute_capabilities:
            check_capability(f"--sm {capability.replace('.', '')}", capability, precision, sparsity)
        return settings
    load_release()  # fails early, and with better advice than the GPU query
    here = probe()
    _check_gpu(here, precision, options)
    check_capability(here.gpu, here.compute_capability, precision, sparsity)
    if precision is Precision.FP8 and version_pair(here.version) < _FIRST_FP8_RELEASE:
        what = f"TensorRT {here.version} has no strongly typed networks, which FP8 needs"
        raise BuildError(what, fix="Install TensorRT 10 or later (a Thor has it), or build with --int8")
    memory_mb = here.memory_mb
    if device is Device.JETSON:  # CPU and GPU share the memory
        memory_mb = min(memory_mb, usable_memory_mb() or memory_mb)
    board = read_board_state() if device is Device.JETSON else None
    most = max(_LEAST_WORKSPACE_MB, min(_MOST_WORKSPACE_MB, int(memory_mb * _SHARE_OF_MEMORY)))
    return TensorRTSettings(
        device,
        TENSORRT,
        here.version,
        choose_route(here.version, calib, options),
        options,
        workspace_mb=options.workspace_mb or most,
        most_workspace_mb=max(options.workspace_mb or 0, 2 * most),
        lean=device is Device.JETSON and here.memory_mb < _LITTLE_MEMORY_MB,
        timing_cache=_timing_cache(here, board),
        board=board,
    )


def _choose_rtx(calib: str, options: TensorRTOptions) -> TensorRTSettings:
    version = load_release(TENSORRT_RTX).version
    if options.route not in (None, Route.TYPED):
        raise BuildError(
            f"TensorRT-RTX has no {options.route.value} quantization",
            fix="Omit --route: it builds strongly typed networks only",
        )
    if _is_own_calibrator(calib):
        raise BuildError(f"TensorRT-RTX has no calibrator {calib!r}", fix="Give --calib lp")
    capabilities = tuple(_compute_capability(text) for text in options.compute_capabilities)
    options = dataclasses.replace(options, compute_capabilities=capabilities)
    workspace = options.workspace_mb or _MOST_WORKSPACE_MB
    # TensorRT-RTX never uses cuDNN or cuBLAS.
    return TensorRTSettings(
        Device.RTX, TENSORRT_RTX, version, Route.TYPED, options, workspace, workspace, lean=True
    )


def _check_options(device: Device, precision: Precision, options: TensorRTOptions) -> None:
    if precision is Precision.BF16:
        raise BuildError("bf16 engines are for CPUs", fix="Give --fp16, or --device cpu --runtime openvino")
    if options.compute_capabilities and device is not Device.RTX:
        raise BuildError("--sm is for --device rtx only", fix="Omit --sm: TensorRT builds for the local GPU")
    if device is Device.RTX and not options.compute_capabilities and not Path("/proc/driver/nvidia").exists():
        raise BuildError(
            "no local NVIDIA GPU to compile for", fix=f"Name one: --sm 86; {_list_capabilities()}"
        )
    if device is Device.JETSON and read_jetson() is None:
        fix = "Run adq-edge on the board, or give --device cpu, cuda or rtx"
        raise BuildError("this machine is not a Jetson", fix=fix)
    if precision is Precision.FP8 and options.route not in (None, Route.TYPED):
        what = f"FP8 needs strongly typed networks, not --route {options.route.value}"
        raise BuildError(what, fix="Omit --route")
    if options.dla is None:
        return
    if device is not Device.JETSON:
        raise BuildError(f"--device {device.value} has no DLA", fix="Give --device jetson, or omit --dla")
    jetson = read_jetson()
    if jetson is not None and jetson.dla_cores == 0:
        raise BuildError(f"a {jetson.family} has no DLA", fix="Omit --dla")
    if precision in (Precision.FP32, Precision.FP8):
        raise BuildError("DLA computes in FP16 and INT8 only", fix="Give --fp16 or --int8")
    if options.route is Route.EXPLICIT:
        raise BuildError(_NO_PAIRS, fix=_OMIT_ROUTE)
    if options.max_batch > 1:
        raise BuildError("DLA supports batch size 1 only", fix="Omit --max-batch")


def _compute_capability(text: str) -> str:
    """Return "8.6" for "86", "8.6" or "sm_86"."""
    found = re.fullmatch(r"(?:sm_?)?(\d+)\.?(\d)", text.strip().lower())
    name = f"{found.group(1)}.{found.group(2)}" if found else text
    if name not in RTX_COMPUTE_CAPABILITIES:
        raise BuildError(
            f"TensorRT-RTX does not compile for --sm {text}", fix=_list_capabilities().capitalize()
        )
    return name


def _list_capabilities() -> str:
    return f"use one of: {', '.join(name.replace('.', '') for name in RTX_COMPUTE_CAPABILITIES)}"


def check_capability(
    gpu: str, compute_capability: str, precision: Precision, sparsity: Optional[Sparsity]
) -> None:
    """Check that a GPU has tensor cores for FP8 and sparse weights, if they are asked for.

    Raises:
        BuildError: it has none.
    """
    capability = version_pair(compute_capability)
    for wanted, first, name, instead in (
        (precision is Precision.FP8, _FIRST_FP8_TENSOR_CORES, "FP8", "Build with --int8 or --fp16"),
        (sparsity is not None, _FIRST_SPARSE_TENSOR_CORES, "sparse weights", "Omit --sparsity"),
    ):
        if wanted and capability < first:
            what = f"{gpu} (compute capability {compute_capability}) has no tensor cores for {name}"
            since = f"they begin with {first[0]}.{first[1]}"
            raise BuildError(f"{what}; {since}", fix=f"{instead}. {_MEASURE_COST}")


def _check_gpu(here: Probe, precision: Precision, options: TensorRTOptions) -> None:
    capability = version_pair(here.compute_capability)
    if precision is Precision.INT8 and capability < _FIRST_INT8_TENSOR_CORES:
        raise BuildError(
            f"{here.gpu} (compute capability {here.compute_capability}) has no INT8 tensor cores",
            fix="Build with --fp16",
        )
    if options.dla is not None and options.dla >= here.dla_cores:
        raise BuildError(
            f"{here.gpu} has {number_of(here.dla_cores, 'DLA core')}, there is no core {options.dla}",
            fix="Give --dla 0" if here.dla_cores else "Omit --dla",
        )


def choose_route(version: str, calib: str, options: TensorRTOptions) -> Route:
    """Return the method that sets number formats in a TensorRT release.

    Explicit quantization is unreliable on Volta in 8.5; TensorRT 11 has strongly typed networks only. Before
    11, DLA takes implicit quantization only. 11.0 to 11.3 have no DLA; 11.4.1 has it on an AGX Orin with
    JetPack 7.2.2.

    Raises:
        BuildError: an option does not suit the release.
    """
    release = version_pair(version)
    implicit = _is_own_calibrator(calib) or _is_implicit_dla(release, version, options)
    if release >= (11, 0):
        if implicit or options.route not in (None, Route.TYPED):
            raise BuildError(
                f"TensorRT {version} has neither implicit quantization nor calibrators of its own",
                fix="Omit --route and trt- calibrators",
            )
        return Route.TYPED
    if options.route is Route.TYPED and release < (10, 0):
        raise BuildError(f"TensorRT {version} has no strongly typed networks", fix="Omit --route")
    if options.route is not None:
        return options.route
    return Route.IMPLICIT if implicit or release < (8, 6) else Route.EXPLICIT


def _is_implicit_dla(release: Tuple[int, int], version: str, options: TensorRTOptions) -> bool:
    """Return True for a build for DLA of a release without strongly typed networks for DLA."""
    if options.dla is None or release >= _FIRST_TYPED_DLA:
        return False
    if release >= (11, 0):
        fix = "Omit --dla, or install TensorRT 11.4.1 (AGX Orin with JetPack 7.2.2) or your JetPack's 10.x"
        raise BuildError(f"TensorRT {version} has no DLA", fix=fix)
    if options.route is Route.TYPED:
        raise BuildError(_NO_PAIRS, fix=_OMIT_ROUTE)
    return True


def _is_own_calibrator(calib: str) -> bool:
    return calib in [own.value for own in OwnCalibrator]


def _timing_cache(here: Probe, board: Optional[BoardState]) -> Path:
    """Return the path of the timing cache, which is valid for one release on one GPU at one speed."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "adq-edge"
    parts = ["timing", here.version, f"sm{here.compute_capability.replace('.', '')}"]
    if board is not None and board.power_mode is not None:
        parts.append(re.sub(r"\W+", "_", board.power_mode.name)[:_LONGEST_MODE])
    if board is not None and board.clocks_locked is False:
        parts.append("unlocked")
    return root / f"{'-'.join(parts)}.cache"
