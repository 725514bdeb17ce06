"""The interface of engine builders: one builds for CPUs, one for the TensorRT family."""

from __future__ import annotations

import abc
import dataclasses
import platform
from pathlib import Path
from typing import Dict, NamedTuple, Optional, Tuple

from adq_edge.artifacts.bundle import Bundle, FileReference
from adq_edge.artifacts.sidecar import Sidecar, TensorRTDetails
from adq_edge.calibration.calibrate import MeasuredRanges, calibrate_bundle
from adq_edge.calibration.calibrated_model import CalibratedModel
from adq_edge.calibration.sources import CalibrationSource
from adq_edge.core.files import sha256
from adq_edge.core.options import Device, Precision, Sparsity, Target
from adq_edge.core.runtimes import Runtime
from adq_edge.quantization.float_model import FloatModel
from adq_edge.runtimes.base import Engine


@dataclasses.dataclass(frozen=True)
class BuildInputs:
    """The inputs of a build.

    Attributes:
        bundle: the model's bundle.
        precision: number format of the networks.
        model: the bundle's model, pruned if it is sparse.
        calibrated: the same model after calibration; None for FP32, FP16 and BF16.
        float_layers: layers of the networks that an INT8 engine keeps in float.
        sparsity: pattern of the weights that `model` has at zero; None if no weight was pruned.
    """

    bundle: Bundle
    precision: Precision
    model: FloatModel
    calibrated: Optional[CalibratedModel] = None
    float_layers: Tuple[str, ...] = ()
    sparsity: Optional[Sparsity] = None


class BuildResult(NamedTuple):
    """A builder's report about the engine that it wrote.

    Attributes:
        operators: number of operators that the runtime executes, by the runtime's operator names.
        details: TensorRT details; None for other engines.
        notes: what the user should know about the engine, one sentence each.
    """

    operators: Dict[str, int]
    details: Optional[TensorRTDetails] = None
    notes: Tuple[str, ...] = ()


class EngineBuilder(abc.ABC):
    """Builds engines for one device.

    Attributes:
        device: the device.
        runtime: the runtime that runs the engines.
        version: that runtime's version.
        target: the integer arithmetic.
        suffix: suffix of engine files.
    """

    device: Device
    runtime: Runtime
    version: str
    target: Target
    suffix: str

    @abc.abstractmethod
    def build(self, inputs: BuildInputs, path: Path) -> BuildResult:
        """Write an engine file, and load it if this machine can.

        Raises:
            BuildError: the engine cannot be built.
        """

    @abc.abstractmethod
    def open_candidate(self, inputs: BuildInputs) -> Engine:
        """Open the engine that `build` would write, or an emulation of it, to measure it."""

    def calibrate(
        self, inputs: BuildInputs, calib: str, images: CalibrationSource, threads: Optional[int]
    ) -> MeasuredRanges:
        """Return the ranges of a calibrator, `name` or `name:value`; an existing file is reused.

        Raises:
            CalibrationError: no such calibrator, no image, or an activation is not finite.
            DataError: an image cannot be read.
        """
        (measured,) = calibrate_bundle(inputs.bundle, inputs.model, [calib], images, threads=threads)
        return measured


def describe_engine(builder: EngineBuilder, inputs: BuildInputs, engine: Path, name: str) -> Sidecar:
    """Return the sidecar of an engine file, without the results of its build."""
    manifest, calibrated = inputs.bundle.manifest, inputs.calibrated
    return Sidecar(
        name=name,
        runtime=builder.runtime.name,
        runtime_version=builder.version,
        device=builder.device.value,
        machine=platform.machine(),
        precision=inputs.precision,
        arch=manifest.arch,
        image_size=manifest.image_size,
        map_size=manifest.map_size,
        engine_sha256=sha256(engine),
        model=FileReference(str(inputs.bundle.model), manifest.model_sha256),
        operators={},
        calibration=None if calibrated is None else calibrated.record,
        threshold=None,
        data=manifest.data,
        float_layers=inputs.float_layers,
        categories=manifest.categories,
        embedding_size=manifest.embedding_size,
        scale_sizes=manifest.scale_sizes,
        imported=manifest.imported is not None,
        layout=manifest.layout,
        sparsity=inputs.sparsity,
    )
