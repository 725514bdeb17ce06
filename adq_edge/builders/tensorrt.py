"""Builds TensorRT and TensorRT-RTX engines in a worker process, with several attempts if needed."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Dict, Iterator, Optional, Sequence, Tuple

import numpy as np

from adq_edge.artifacts.engine_file import EngineFile
from adq_edge.artifacts.ranges import Ranges
from adq_edge.artifacts.sidecar import TensorRTDetails
from adq_edge.builders.base import BuildInputs, BuildResult, EngineBuilder, describe_engine
from adq_edge.builders.tensorrt_graphs import TensorRTGraph, make_graph
from adq_edge.builders.tensorrt_options import TensorRTSettings
from adq_edge.calibration.calibrate import MeasuredRanges, file_name
from adq_edge.calibration.sources import CalibrationSource
from adq_edge.core.errors import BuildError
from adq_edge.core.files import temporary_folder
from adq_edge.core.options import Precision, Route, Target
from adq_edge.core.runtimes import ONNXRUNTIME, TENSORRT
from adq_edge.core.text import number_of
from adq_edge.core.version import __version__
from adq_edge.hardware.board_state import read_board_state
from adq_edge.quantization.equalization import equalize
from adq_edge.quantization.fp8 import float16_layers
from adq_edge.quantization.passes.batch_of_one import fix_batch_of_one
from adq_edge.quantization.passes.float_input import take_float_input
from adq_edge.quantization.passes.frame import run_passes
from adq_edge.quantization.placement import integer_layers
from adq_edge.quantization.qdq import quantize
from adq_edge.runtimes.base import Engine
from adq_edge.runtimes.emulation import EmulatedEngine
from adq_edge.runtimes.registry import construct
from adq_edge.runtimes.tensorrt.inspection import (
    count_kernels,
    count_kinds,
    count_precisions,
    describe_rounding,
)
from adq_edge.runtimes.tensorrt.job import Job, LayerReport, OwnCalibrator
from adq_edge.runtimes.tensorrt.log import Failure, FailureKind
from adq_edge.runtimes.tensorrt.process import Built, FailedBuildError, run_job
from adq_edge.runtimes.tensorrt.release import version_pair

MOST_TRIES = 4
"""Largest number of attempts with different amounts of memory."""
MOST_STRIPPED = 5
"""Largest number of layers that may stay float because TensorRT has no integer kernel for them."""
_LEAST_WORKSPACE_MB = 64
_SMALL_SHARE = 0.5
_MOST_LOADABLES = 16
"""Parts of engines that one DLA core of a Xavier holds, of all processes (NVIDIA's developer guide)."""
_SETUP = "./jetson_setup.sh --max-performance"


class TensorRTEngineBuilder(EngineBuilder):
    """Builds engines with the installed TensorRT or TensorRT-RTX.

    Args:
        settings: the settings of the build.
        threads: CPU threads of emulated candidates; all by default.
    """

    target = Target.TENSORRT

    def __init__(self, settings: TensorRTSettings, threads: Optional[int]) -> None:
        self.device = settings.device
        self.runtime = settings.runtime
        self.suffix = settings.runtime.suffix
        self.version = settings.version
        self._settings = settings
        self._threads = threads

    def build(self, inputs: BuildInputs, path: Path) -> BuildResult:
        """Build the plan in a worker process, with less memory or fewer integer layers if needed."""
        attempts = _Attempts(self._settings, inputs, path)
        built = attempts.run()
        layers = built.report.layers
        return BuildResult({} if layers is None else count_kinds(layers), attempts.details(built))

    def open_candidate(self, inputs: BuildInputs) -> Engine:
        """Open an emulation of the engine, which takes seconds instead of minutes."""
        graph, calibrated = inputs.model.proto, inputs.calibrated
        if inputs.precision is Precision.INT8 and calibrated is not None:
            graph = quantize(
                calibrated.float_model,
                calibrated.ranges.tensors,
                self.target,
                rounding=calibrated.rounded_weights,
                float_layers=inputs.float_layers,
            )
        with temporary_folder() as folder:
            path = folder / f"{inputs.bundle.manifest.name}-{inputs.precision.value}.onnx"
            path.write_bytes(graph.SerializeToString())
            sidecar = describe_engine(self, inputs, path, path.stem)
            file = EngineFile(path, sidecar.engine_sha256)
            return construct(EmulatedEngine, ONNXRUNTIME, file, sidecar, self._threads)

    def calibrate(
        self, inputs: BuildInputs, calib: str, images: CalibrationSource, threads: Optional[int]
    ) -> MeasuredRanges:
        """Return the ranges of a calibrator; TensorRT's own calibrators run on the GPU."""
        if calib not in [own.value for own in OwnCalibrator]:
            return super().calibrate(inputs, calib, images, threads)
        measured, manifest = inputs.model.region.measured, inputs.bundle.manifest
        found = self._run_calibrator(inputs, calib, list(images.images(manifest.image_size)))
        missing = [name for name in measured if name not in found]
        if missing:
            raise BuildError(f"{calib} found no range of {missing[0]!r}", fix="Use a calibrator of adq-edge")
        tensors = {name: (-found[name], found[name]) for name in measured}
        origin = (manifest.model_sha256, calib, images.name, images.fingerprint(), len(images))
        path = inputs.bundle.ranges_folder / file_name(f"{calib}-{self.version}", images)
        ranges = Ranges(*origin, 0, tensors, {}, release=__version__)
        ranges.write(path)
        return MeasuredRanges(path, ranges, equalize(inputs.model, {}))

    def _run_calibrator(
        self, inputs: BuildInputs, calib: str, images: Sequence[np.ndarray]
    ) -> Dict[str, float]:
        """Return the largest magnitude of each tensor that TensorRT's calibrator found."""
        proto = run_passes(inputs.model.proto, (take_float_input, fix_batch_of_one))
        with temporary_folder() as folder:
            array = folder / "images.npy"
            np.save(str(array), np.stack(images))
            graph = TensorRTGraph(proto, Route.IMPLICIT, (), (), {})
            job = _write_job(self._settings, graph, inputs, folder / "none.plan", folder)
            job = dataclasses.replace(
                job, own_calibrator=OwnCalibrator(calib), images=str(array), max_batch=1
            )
            return run_job(job, f"Calibrating with {calib}").report.ranges or {}


class _Attempts:
    """The attempts to build one engine; each failure changes the settings of the next attempt."""

    def __init__(self, settings: TensorRTSettings, inputs: BuildInputs, path: Path) -> None:
        self._settings = settings
        self._inputs = inputs
        self._path = path
        self._stripped: Tuple[str, ...] = ()
        self._started = time.monotonic()
        self._tries = 0
        self._tried_all_kernels = False

    def run(self) -> Built:
        """Build until an attempt succeeds or no setting is left to change.

        Raises:
            BuildError: the last attempt failed.
        """
        while True:
            try:
                return self._build()
            except FailedBuildError as failed:
                if not self._change_settings(failed.failure):
                    raise

    def details(self, built: Built) -> TensorRTDetails:
        """Return the description of the build for the sidecar."""
        layers = built.report.layers
        return TensorRTDetails(
            route=self._settings.route.value,
            compute_capability=built.report.compute_capability,
            max_batch=self._settings.options.max_batch,
            dla=self._settings.options.dla,
            layers=None if layers is None else count_precisions(layers),
            stripped=self._stripped,
            workspace_mb=self._settings.workspace_mb,
            seconds=time.monotonic() - self._started,
            peak_mb=built.peak_mb,
            warnings=(*self._warnings(layers), *self._board_warnings()),
            system_mb=built.system_mb,
            kernels=count_kernels(layers or ()),
        )

    def _float_layers(self) -> Tuple[str, ...]:
        return (*self._inputs.float_layers, *self._stripped)

    def _build(self) -> Built:
        inputs = dataclasses.replace(self._inputs, float_layers=self._float_layers())
        graph = make_graph(inputs, self._settings.route, self._settings.runtime)
        if self._settings.options.max_batch == 1:
            graph = dataclasses.replace(graph, model=run_passes(graph.model, (fix_batch_of_one,)))
        with temporary_folder() as folder:
            job = _write_job(self._settings, graph, inputs, self._path, folder)
            title = f"Building with {self._settings.runtime.label} {self._settings.version}"
            return run_job(job, title, memory_limit_mb=self._settings.options.memory_limit_mb)

    def _change_settings(self, failure: Failure) -> bool:
        """Change the settings of the next attempt; return False if none is left to change."""
        if failure.kind is FailureKind.NO_IMPLEMENTATION:
            return self._use_all_kernels() or self._keep_in_float(failure.layer or "")
        if failure.kind is FailureKind.OTHER:
            return self._pass_calibration_cache()
        self._tries += 1
        old = self._settings
        if failure.kind is FailureKind.OUT_OF_MEMORY:
            less = min(old.workspace_mb, max(_LEAST_WORKSPACE_MB, old.workspace_mb // 2))
            self._settings = dataclasses.replace(old, workspace_mb=less, lean=True)
        elif failure.kind is FailureKind.SMALL_WORKSPACE:
            more = min(2 * old.workspace_mb, old.most_workspace_mb)
            self._settings = dataclasses.replace(old, workspace_mb=more)
        return self._tries < MOST_TRIES and self._settings != old

    def _use_all_kernels(self) -> bool:
        """Build once with cuDNN and cuBLAS: on Volta, transposed convolutions may have no other kernel."""
        old = self._settings
        has_both = old.runtime is TENSORRT and version_pair(old.version) < (11, 0)
        if self._tried_all_kernels or not old.lean or not has_both:
            return False
        self._tried_all_kernels = True
        self._settings = dataclasses.replace(old, lean=False)
        return True

    def _pass_calibration_cache(self) -> bool:
        """Build for DLA once with a calibration cache: TensorRT may want one beside the dynamic ranges.

        NVIDIA's sampleINT8API uses DLA with ranges alone. A calibrator comes second, because TensorRT rejects
        one for a network with uint8 input (NVIDIA/TensorRT #4131, #1326), at least on the GPU.
        """
        old, precision = self._settings, self._inputs.precision
        is_implicit = old.options.dla is not None and old.route is Route.IMPLICIT
        if not is_implicit or precision is not Precision.INT8 or old.calibration_cache:
            return False
        self._settings = dataclasses.replace(old, calibration_cache=True)
        return True

    def _keep_in_float(self, failing: str) -> bool:
        """Keep in float the layers named in TensorRT's error (fused names, joined by " + ")."""
        calibrated = self._inputs.calibrated
        if calibrated is None or len(self._stripped) >= MOST_STRIPPED:
            return False
        left = integer_layers(calibrated.float_model.region, Target.TENSORRT, self._float_layers())
        named = [layer.node.name for layer in left if layer.node.name in failing.split(" + ")]
        self._stripped += tuple(named)
        return bool(named)

    def _warnings(self, reports: Optional[Sequence[LayerReport]]) -> Iterator[str]:
        if self._stripped:
            layers = number_of(len(self._stripped), "layer")
            names = ", ".join(self._stripped)
            yield f"TensorRT has no integer kernel for {layers}; kept in float: {names}"
        if reports is None:
            return
        counts, rounding = count_precisions(reports), describe_rounding(reports)
        if rounding is not None:
            yield rounding
        if self._inputs.calibrated is not None:
            region = self._inputs.calibrated.float_model.region
            kept, name = set(self._inputs.float_layers), self._inputs.precision.value.upper()
            if self._inputs.precision is Precision.FP8:
                kept.update(float16_layers(region, self._inputs.calibrated.float_model.index))
            planned = integer_layers(region, Target.TENSORRT, kept)
            wanted = sum(layer.node.op_type != "Add" for layer in planned)
            integers = counts.get(name, 0)
            if wanted and not integers:
                yield f"none of {wanted} layers runs in {name}, so nothing is faster: build with --fp16"
            elif integers < _SMALL_SHARE * wanted:
                yield f"only {integers} of {wanted} layers run in {name}"
        fallback = sum(counts.values()) - 2 * counts.get("DLA", 0)
        if self._settings.options.dla is not None and fallback > 0:
            yield f"{fallback} layers run on the GPU instead of the DLA"
        parts = counts.get("DLA", 0)
        if parts > _MOST_LOADABLES:
            limit = f"a DLA core holds {_MOST_LOADABLES}, those of other processes included"
            yield f"the engine has {parts} parts for the DLA and may not load: {limit}"

    def _board_warnings(self) -> Iterator[str]:
        """Yield why TensorRT's measurements of kernels, by which it chose them, may mislead."""
        before, after = self._settings.board, read_board_state()
        if before is None:
            return
        if before.clocks_locked is False:
            yield f"the clocks were not locked while TensorRT chose kernels: {_SETUP}, then build again"
        if after is not None and before.settings != after.settings:
            yield "the power mode or the clock lock changed during the build: build again"


def _write_job(
    settings: TensorRTSettings, graph: TensorRTGraph, inputs: BuildInputs, plan: Path, folder: Path
) -> Job:
    """Write a graph into a folder and return the job that builds it."""
    model = folder / "model.onnx"
    model.write_bytes(graph.model.SerializeToString())
    return Job(
        runtime=settings.runtime.name,
        model=str(model),
        plan=str(plan.resolve()),
        precision=inputs.precision,
        route=graph.route,
        networks=graph.networks,
        half=graph.half,
        ranges=graph.ranges,
        image_size=inputs.bundle.manifest.image_size,
        max_batch=settings.options.max_batch,
        compute_capabilities=settings.options.compute_capabilities,
        dla=settings.options.dla,
        workspace_mb=settings.workspace_mb,
        lean=settings.lean,
        timing_cache=None if settings.timing_cache is None else str(settings.timing_cache),
        sparse=inputs.sparsity is not None,
        calibration_cache=settings.calibration_cache,
    )
