"""Engines of the TensorRT family: tries of the building process, and what to change when one fails."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from pathlib import Path
from typing import Callable, Dict, List, Optional, Sequence

import numpy as np

from adq_edge.artifacts.bundle import Bundle
from adq_edge.artifacts.ranges import Ranges
from adq_edge.artifacts.sidecar import TensorRTDetails
from adq_edge.builders.base import BuildInputs, BuildResult, EngineBuilder, describe_engine
from adq_edge.builders.tensorrt_graphs import Graph, make_graph
from adq_edge.builders.tensorrt_options import Choice
from adq_edge.calibration.calibrate import file_name
from adq_edge.calibration.sources import CalibrationSource
from adq_edge.core.errors import BuildError
from adq_edge.core.files import write_bytes
from adq_edge.core.options import Precision, Route, Target
from adq_edge.core.version import __version__
from adq_edge.quantization.float_model import FloatModel
from adq_edge.quantization.graph.inputs import fix_batch, take_float_input
from adq_edge.quantization.placement import integer_layers
from adq_edge.quantization.qdq import quantize
from adq_edge.runtimes.base import Engine
from adq_edge.runtimes.emulation import EmulatedEngine
from adq_edge.runtimes.tensorrt.inspection import count_kinds, count_precisions
from adq_edge.runtimes.tensorrt.job import Job, OwnCalibrator
from adq_edge.runtimes.tensorrt.log import FailureKind
from adq_edge.runtimes.tensorrt.process import Built, FailedBuildError, run_job

MOST_TRIES = 4
"""Tries with less memory, or with a larger workspace."""
MOST_STRIPPED = 5
"""Layers whose pairs are taken away because TensorRT has no integer kernel for them."""
_LEAST_WORKSPACE_MB = 64
_LITTLE = 0.5


class TensorRTEngineBuilder(EngineBuilder):
    """Makes engines with the TensorRT, or the TensorRT-RTX, that is installed here.

    Args:
        choice: what to build for, found out and checked by `tensorrt_options.choose_build`.
        threads: CPU threads of the emulated candidates; all by default.
    """

    target = Target.TENSORRT

    def __init__(self, choice: Choice, threads: Optional[int]) -> None:
        self.device = choice.device
        self.runtime = choice.runtime
        self.suffix = choice.runtime.suffix
        self.version = choice.version
        self._choice = choice
        self._threads = threads

    def build(self, inputs: BuildInputs, path: Path) -> BuildResult:
        """Build the plan in a process of its own, with less memory or without a layer's pairs if need be."""
        attempt = _Attempt(self._choice, inputs, path)
        built = attempt.run()
        layers = built.report.layers
        return BuildResult({} if layers is None else count_kinds(layers), attempt.details(built))

    def open_candidate(self, inputs: BuildInputs) -> Engine:
        """Open the Q/DQ graph in an emulation of TensorRT's arithmetic: it takes seconds, not minutes."""
        graph, calibrated = inputs.model.proto, inputs.calibrated
        if inputs.precision is Precision.INT8 and calibrated is not None:
            graph = quantize(
                calibrated.float_model,
                calibrated.ranges.tensors,
                self.target,
                rounding=calibrated.rounded_weights,
                float_layers=inputs.float_layers,
            )
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{inputs.bundle.manifest.name}-{inputs.precision.value}.onnx"
            write_bytes(path, graph.SerializeToString())
            sidecar = describe_engine(self, inputs.bundle, path, inputs.precision, path.stem)
            return EmulatedEngine(path, sidecar, self._threads)

    def calibrate(
        self,
        bundle: Bundle,
        model: FloatModel,
        calib: str,
        images: CalibrationSource,
        threads: Optional[int],
    ) -> Path:
        """Return the ranges file of one of our calibrators, or of TensorRT's own, which run on the GPU."""
        if calib not in [own.value for own in OwnCalibrator]:
            return super().calibrate(bundle, model, calib, images, threads)
        path = bundle.ranges_folder / file_name(f"{calib}-{self.version}", images)
        arrays = list(images.images(bundle.manifest.image_size))
        found = self._run_calibrator(bundle, model, OwnCalibrator(calib), arrays)
        measured = model.region.measured
        missing = [name for name in measured if name not in found]
        if missing:
            raise BuildError(f"{calib} found no range of {missing[0]!r}", fix="Use a calibrator of adq-edge")
        tensors = {name: (-found[name], found[name]) for name in measured}
        sha256, fingerprint = bundle.manifest.model_sha256, images.fingerprint()
        origin = (sha256, calib, images.name, fingerprint, len(images))
        Ranges(*origin, 0, tensors, {}, release=__version__).write(path)
        return path

    def _run_calibrator(
        self, bundle: Bundle, model: FloatModel, calibrator: OwnCalibrator, images: Sequence[np.ndarray]
    ) -> Dict[str, float]:
        """Return amax by tensor."""
        with tempfile.TemporaryDirectory() as folder:
            array = Path(folder) / "images.npy"
            np.save(str(array), np.stack(images))
            proto = fix_batch(take_float_input(model.proto), 1)
            graph = Graph(proto, Route.IMPLICIT, (), (), {})
            job = _job(self._choice, graph, bundle, Path(folder) / "none.plan", Path(folder), Precision.INT8)
            job = dataclasses.replace(job, own_calibrator=calibrator, images=str(array), max_batch=1)
            report = run_job(job, f"Calibrating with {calibrator.value}").report
        return report.ranges or {}


class _Attempt:
    """The tries at one engine: what the next one changes depends on what the last one failed of."""

    def __init__(self, choice: Choice, inputs: BuildInputs, path: Path) -> None:
        self._choice = choice
        self._inputs = inputs
        self._path = path
        self._stripped: List[str] = []
        self._started = time.monotonic()
        self._workspace_mb = choice.workspace_mb
        self._lean = choice.lean
        self._tries = 0

    def run(self) -> Built:
        """Build until it works or nothing is left to change.

        Raises:
            BuildError: it does not work.
        """
        while True:
            try:
                return self._build()
            except FailedBuildError as failed:
                if not self._change(failed):
                    raise

    def details(self, built: Built) -> TensorRTDetails:
        """Return what the sidecar says of the engine."""
        layers = built.report.layers
        counts = None if layers is None else count_precisions(layers)
        return TensorRTDetails(
            route=self._choice.route.value,
            compute_capability=built.report.compute_capability,
            max_batch=self._choice.max_batch,
            dla=self._choice.dla,
            layers=counts,
            stripped=tuple(self._stripped),
            workspace_mb=self._workspace_mb,
            seconds=time.monotonic() - self._started,
            peak_mb=built.peak_mb,
            warnings=tuple(self._warnings(counts)),
        )

    def _build(self) -> Built:
        inputs = self._inputs
        inputs = dataclasses.replace(inputs, float_layers=(*inputs.float_layers, *self._stripped))
        graph = make_graph(inputs, self._choice.route)
        if self._choice.max_batch == 1:
            graph = dataclasses.replace(graph, model=fix_batch(graph.model, 1))
        with tempfile.TemporaryDirectory() as folder:
            job = _job(self._choice, graph, inputs.bundle, self._path, Path(folder), inputs.precision)
            job = dataclasses.replace(job, workspace_mb=self._workspace_mb, lean=self._lean)
            title = f"Building with {self._choice.title}"
            return run_job(job, title, memory_limit_mb=self._choice.memory_limit_mb)

    def _change(self, failed: FailedBuildError) -> bool:
        """Change what may help against a failure; False if there is nothing left."""
        changes: Dict[FailureKind, Callable[[], bool]] = {
            FailureKind.OUT_OF_MEMORY: self._take_less,
            FailureKind.SMALL_WORKSPACE: self._take_more,
            FailureKind.NO_IMPLEMENTATION: lambda: self._strip(failed.failure.layer or ""),
        }
        change = changes.get(failed.failure.kind)
        return change is not None and change()

    def _take_less(self) -> bool:
        self._tries += 1
        if self._tries >= MOST_TRIES or (self._lean and self._workspace_mb <= _LEAST_WORKSPACE_MB):
            return False
        self._workspace_mb = max(_LEAST_WORKSPACE_MB, self._workspace_mb // 2)
        self._lean = True
        return True

    def _take_more(self) -> bool:
        self._tries += 1
        if self._tries >= MOST_TRIES or self._workspace_mb >= self._choice.most_workspace_mb:
            return False
        self._workspace_mb = min(2 * self._workspace_mb, self._choice.most_workspace_mb)
        return True

    def _strip(self, failing: str) -> bool:
        """Leave float the quantized layers that TensorRT names, as it fused them, in its complaint."""
        calibrated = self._inputs.calibrated
        if calibrated is None or len(self._stripped) >= MOST_STRIPPED:
            return False
        float_layers = (*self._inputs.float_layers, *self._stripped)
        left = integer_layers(calibrated.float_model.region, Target.TENSORRT, float_layers)
        named = [layer.node.name for layer in left if layer.node.name in failing.split(" + ")]
        self._stripped.extend(named)
        return bool(named)

    def _warnings(self, counts: Optional[Dict[str, int]]) -> List[str]:
        warnings = []
        if self._stripped:
            warnings.append(
                f"TensorRT has no integer kernel for {len(self._stripped)} layers, which stay float: "
                f"{', '.join(self._stripped)}"
            )
        calibrated = self._inputs.calibrated
        if calibrated is not None and counts is not None:
            region, planned = calibrated.float_model.region, self._inputs.float_layers
            wanted = sum(
                layer.node.op_type != "Add" for layer in integer_layers(region, Target.TENSORRT, planned)
            )
            found = counts.get("INT8", 0)
            if found < _LITTLE * wanted:
                warnings.append(f"INT8 was asked, but only {found} layers run in it ({wanted} could)")
        if self._choice.dla is not None and counts is not None:
            fallback = sum(counts.values()) - 2 * counts.get("DLA", 0)
            if fallback > 0:
                warnings.append(f"{fallback} layers fell back from DLA to the GPU")
        return warnings


def _job(choice: Choice, graph: Graph, bundle: Bundle, plan: Path, folder: Path, precision: Precision) -> Job:
    """Write a graph into a folder and return the job that builds it."""
    model = folder / "model.onnx"
    write_bytes(model, graph.model.SerializeToString())
    return Job(
        runtime=choice.runtime.name,
        model=str(model),
        plan=str(plan.resolve()),
        precision=precision,
        route=graph.route,
        networks=graph.networks,
        half=graph.half,
        ranges=graph.ranges,
        image_size=bundle.manifest.image_size,
        max_batch=choice.max_batch,
        compute_capabilities=choice.compute_capabilities,
        dla=choice.dla,
        workspace_mb=choice.workspace_mb,
        lean=choice.lean,
        timing_cache=None if choice.timing_cache is None else str(choice.timing_cache),
    )
