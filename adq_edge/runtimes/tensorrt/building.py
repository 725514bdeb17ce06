"""Builds a TensorRT engine, in a worker process: TensorRT can crash, and never releases all of its memory.

The log of the process is Polygraphy's; the parent reads progress and failures from it. Polygraphy loads the
network, creates the configuration and builds. This module adds what Polygraphy lacks: precision pins,
dynamic ranges, the strict calibration cache, DLA with pins, and the engine inspector.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Tuple

from adq_edge.artifacts.bundle import INPUT
from adq_edge.core.errors import BuildError
from adq_edge.core.files import storage_errors
from adq_edge.core.options import Precision, Route
from adq_edge.core.runtimes import TENSORRT_RTX, find_runtime
from adq_edge.core.worker import serve
from adq_edge.quantization.calibration_cache import (
    CalibrationAlgorithm,
    read_calibration_cache,
    write_calibration_cache,
)
from adq_edge.runtimes.tensorrt.calibrators import cache_reader, own_calibrator
from adq_edge.runtimes.tensorrt.cuda import Gpu
from adq_edge.runtimes.tensorrt.inspection import inspect_engine
from adq_edge.runtimes.tensorrt.job import BuildReport, Job, LayerReport
from adq_edge.runtimes.tensorrt.loading import load_plan
from adq_edge.runtimes.tensorrt.log import PROGRESS_MARK
from adq_edge.runtimes.tensorrt.release import Release, load_release
from adq_edge.runtimes.tensorrt.rtx_layers import KernelList, listen

if TYPE_CHECKING:
    import tensorrt

_MEGABYTE = 10**6
_UNPINNED = frozenset({"CONSTANT", "SHAPE", "QUANTIZE", "DEQUANTIZE", "CAST", "IDENTITY", "SHUFFLE"})
"""Types of layers that compute nothing, or whose number format the neighboring layers decide."""


_PAIRS = frozenset({"QUANTIZE", "DEQUANTIZE"})


def build_job(job: Job) -> BuildReport:
    """Set up the log of this worker process, then `build`."""
    if job.runtime == TENSORRT_RTX.name:
        os.environ["POLYGRAPHY_USE_TENSORRT_RTX"] = "1"  # read when Polygraphy is imported
    from polygraphy.logger import G_LOGGER

    G_LOGGER.colors = False
    G_LOGGER.module_severity = G_LOGGER.VERBOSE
    return build(job)


def build(job: Job) -> BuildReport:
    """Build the engine of a job and write its plan.

    Raises:
        AdqError: this TensorRT cannot build the job.
        Exception: any exception of TensorRT and Polygraphy; the log contains the details.
    """
    from polygraphy.backend.trt import EngineBytesFromNetwork, NetworkFromOnnxPath, PostprocessConfig

    release = load_release(find_runtime(job.runtime))
    if job.own_calibrator is not None:
        return _calibrate(job, release)
    # TensorRT 11 and RTX have no flag for strong typing: all their networks are strongly typed.
    is_typed = job.route is Route.TYPED and release.at_least(10) and release.before(11)
    listed = KernelList()
    if release.is_rtx:
        listen(listed)
    builder, network, parser = NetworkFromOnnxPath(job.model, strongly_typed=is_typed)()
    reader = None
    if job.route is not Route.TYPED:
        pin_precisions(job, release, network)
    if job.route is Route.IMPLICIT and job.precision is Precision.INT8:
        set_dynamic_ranges(job, release, network)
    if job.calibration_cache:
        cache = write_calibration_cache(job.ranges, release.version, CalibrationAlgorithm.ENTROPY_2)
        reader = cache_reader(release, cache)

    def finish(builder: Any, network: tensorrt.INetworkDefinition, config: tensorrt.IBuilderConfig) -> None:
        configure(job, release, network, config, reader)

    config = PostprocessConfig(_create_config(job, release), finish)
    plan = EngineBytesFromNetwork((builder, network, parser), config, save_timing_cache=timing_cache(job))()
    if reader is not None and reader.asked_for_data:
        raise BuildError(
            f"TensorRT {release.version} rejected the calibration cache and asked for data",
            fix="Report this as a bug: the ranges do not use TensorRT's names of the tensors",
        )
    with storage_errors(Path(job.plan)), Path(job.plan).open("wb") as file:
        file.write(plan)
    layers = listed.layers if release.is_rtx else _inspect(job, release, plan)
    return BuildReport(release.version, _compute_capability(job), layers)


def _create_config(job: Job, release: Release) -> Any:
    """Return the Polygraphy loader of the builder configuration."""
    from polygraphy.backend.trt import CreateConfig, Profile

    trt = release.trt
    common: Dict[str, Any] = {
        "profiles": [Profile().add(INPUT, *batch_shapes(job))],
        "memory_pool_limits": {trt.MemoryPoolType.WORKSPACE: job.workspace_mb * _MEGABYTE},
        "profiling_verbosity": trt.ProfilingVerbosity.DETAILED,
    }
    if release.at_least(10):
        common["progress_monitor"] = progress_monitor(release)
    if release.is_rtx:
        from polygraphy.backend.tensorrt_rtx import CreateConfigRTX

        pairs = [
            (int(major), int(minor)) for major, minor in (c.split(".") for c in job.compute_capabilities)
        ]
        return CreateConfigRTX(compute_capabilities=pairs or None, use_gpu=not pairs, **common)
    if job.lean and release.before(11):
        common["tactic_sources"] = [
            trt.TacticSource.EDGE_MASK_CONVOLUTIONS,
            trt.TacticSource.JIT_CONVOLUTIONS,
        ]
    cache = timing_cache(job)
    if cache is not None and Path(cache).is_file():
        common["load_timing_cache"] = cache
    if job.route is Route.TYPED:
        return CreateConfig(**common)
    return CreateConfig(
        fp16=job.precision is not Precision.FP32,
        int8=job.precision is Precision.INT8,
        precision_constraints=None if job.precision is Precision.FP32 else "obey",
        **common,
    )


def timing_cache(job: Job) -> Optional[str]:
    """Return the file for the measured times of kernels; None if its folder cannot be written to.

    Polygraphy writes it after the build, before it returns the plan: a missing folder would lose the build.
    """
    if job.timing_cache is None:
        return None
    folder = Path(job.timing_cache).parent
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    return job.timing_cache if folder.is_dir() and os.access(str(folder), os.W_OK) else None


def batch_shapes(job: Job) -> List[Any]:
    """Return the smallest, the usual and the largest input shape."""
    height, width = job.image_size
    return [(count, height, width, 3) for count in (1, 1, job.max_batch)]


def configure(
    job: Job,
    release: Release,
    network: tensorrt.INetworkDefinition,
    config: tensorrt.IBuilderConfig,
    reader: Optional[Any],
) -> None:
    """Set what Polygraphy cannot: no TF32, the calibration cache, shared profiles, DLA with pins."""
    trt = release.trt
    config.clear_flag(trt.BuilderFlag.TF32)
    if job.sparse:
        config.set_flag(trt.BuilderFlag.SPARSE_WEIGHTS)
    if reader is not None and release.before(11):
        config.int8_calibrator = reader
    if release.at_least(8, 6) and release.before(11):
        config.set_preview_feature(trt.PreviewFeature.PROFILE_SHARING_0806, True)
    if job.dla is not None:
        _use_dla(job, release, network, config)


def _use_dla(
    job: Job, release: Release, network: tensorrt.INetworkDefinition, config: tensorrt.IBuilderConfig
) -> None:
    """Assign to DLA the layers that it can run, except those that are pinned to float32.

    In a strongly typed network, a Q/DQ pair belongs to the layer that reads it.
    """
    assert job.dla is not None
    trt = release.trt
    config.default_device_type = trt.DeviceType.DLA
    config.DLA_core = job.dla
    config.set_flag(trt.BuilderFlag.GPU_FALLBACK)
    names = frozenset(job.networks)
    for layer in layers_of(network):
        is_pair = job.route is Route.TYPED and layer.type.name in _PAIRS
        if not (is_pair or layer.name in names) or not config.can_run_on_DLA(layer):
            config.set_device_type(layer, trt.DeviceType.GPU)


def layers_of(network: tensorrt.INetworkDefinition) -> List[tensorrt.ILayer]:
    """Return the layers of a network."""
    return [network.get_layer(position) for position in range(network.num_layers)]


def pin_precisions(job: Job, release: Release, network: tensorrt.INetworkDefinition) -> None:
    """Pin all layers outside the networks to float32, and in INT8 the layers of `job.half` to float16.

    TensorRT splits some nodes into several layers with names of its own. Every layer that is not known to be
    in the networks is therefore pinned: norms overflow in float16, and products of small maps underflow.
    """
    assert release.before(11)
    if job.precision is Precision.FP32:
        return
    trt = release.trt
    networks, half = frozenset(job.networks), frozenset(job.half)
    for layer in layers_of(network):
        if layer.type.name in _UNPINNED:
            continue
        if layer.name in half and job.precision is Precision.INT8:
            _pin(release, layer, trt.float16)
        elif layer.name not in networks:
            _pin(release, layer, trt.float32)


def _pin(release: Release, layer: tensorrt.ILayer, kind: tensorrt.DataType) -> None:
    """Pin the number format of a layer and its outputs, if all its outputs are floating point."""
    assert release.before(11)
    trt = release.trt
    outputs = [layer.get_output(position) for position in range(layer.num_outputs)]
    if not all(tensor.dtype in (trt.float32, trt.float16) for tensor in outputs):
        return
    layer.precision = kind
    for position in range(layer.num_outputs):
        layer.set_output_type(position, kind)


def set_dynamic_ranges(job: Job, release: Release, network: tensorrt.INetworkDefinition) -> None:
    """Set the dynamic ranges of tensors; tensors without a range stay floating point.

    Raises:
        BuildError: the ranges contain tensors that TensorRT's network lacks.
    """
    assert release.before(11)
    missing = set(job.ranges)
    inputs = [network.get_input(position) for position in range(network.num_inputs)]
    outputs = [
        layer.get_output(position) for layer in layers_of(network) for position in range(layer.num_outputs)
    ]
    for tensor in [*inputs, *outputs]:
        amax = job.ranges.get(tensor.name)
        if amax is not None:
            tensor.set_dynamic_range(-amax, amax)
            missing.discard(tensor.name)
    if missing:
        what = f"TensorRT {release.version} has no tensor {min(missing)!r}, which has a range"
        raise BuildError(f"{what} ({len(missing)} such tensors)", fix="Export and calibrate the bundle again")


def progress_monitor(release: Release) -> tensorrt.IProgressMonitor:
    """Return a monitor that prints the progress of TensorRT 10 or later."""
    assert release.at_least(10)
    if TYPE_CHECKING:
        import tensorrt as trt
    else:
        trt = release.trt

    class Printer(trt.IProgressMonitor):  # type: ignore[misc] # no stubs come with TensorRT
        """Prints the steps of each phase."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._totals: Dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: Optional[str], num_steps: int) -> None:
            self._totals[phase_name] = num_steps
            self._print(phase_name, 0)

        def step_complete(self, phase_name: str, step: int) -> bool:
            self._print(phase_name, step + 1)
            return True

        def phase_finish(self, phase_name: str) -> None:
            self._totals.pop(phase_name, None)

        def _print(self, phase: str, step: int) -> None:
            print(f"{PROGRESS_MARK} {step} {self._totals.get(phase, 0)} {phase}", flush=True)

    return Printer()


def _calibrate(job: Job, release: Release) -> BuildReport:
    """Run TensorRT's own calibrator on the model with float input, and discard the engine."""
    import numpy as np
    from polygraphy.backend.trt import CreateConfig, EngineBytesFromNetwork, NetworkFromOnnxPath, Profile

    assert release.before(11)
    assert job.own_calibrator is not None
    assert job.images is not None
    trt = release.trt
    # The context must be current while images are copied.
    with Gpu():
        calibrator = own_calibrator(release, job.own_calibrator, np.load(job.images, allow_pickle=False))
        config = CreateConfig(
            int8=True,
            calibrator=calibrator,
            profiles=[Profile().add(INPUT, *batch_shapes(job))],
            memory_pool_limits={trt.MemoryPoolType.WORKSPACE: job.workspace_mb * _MEGABYTE},
            quantization_flags=[trt.QuantizationFlag.CALIBRATE_BEFORE_FUSION],
        )
        EngineBytesFromNetwork(NetworkFromOnnxPath(job.model), config)()
    if not calibrator.cache:
        raise BuildError(f"TensorRT {release.version} found no ranges", fix="Use a calibrator of adq-edge")
    # The cache of the percentile calibrator names a class that `read_calibration_cache` refuses.
    signed = re.sub(rb"^(TRT-\d+)-\w+", rb"\1-EntropyCalibration2", calibrator.cache, count=1)
    ranges = read_calibration_cache(signed)
    return BuildReport(release.version, None, None, ranges)


def _compute_capability(job: Job) -> str:
    if job.compute_capabilities:
        return ", ".join(job.compute_capabilities)
    with Gpu() as gpu:
        return gpu.compute_capability


def _inspect(job: Job, release: Release, plan: bytes) -> Tuple[LayerReport, ...]:
    """Return the layers of an engine."""
    with Gpu():
        engine, runtime = load_plan(release, plan, job.dla, Path(job.plan))
        layers = inspect_engine(release, engine)
        del engine, runtime  # in this order, while the context is current
    return layers


if __name__ == "__main__":
    serve(build_job)
