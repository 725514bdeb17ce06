"""What every maker of engines is given and gives back: one maker for CPUs, one for the TensorRT family."""

from __future__ import annotations

import abc
import dataclasses
import platform
from pathlib import Path
from typing import Collection, Dict, NamedTuple, Optional, Tuple

import onnx

from adq_edge.artifacts.bundle import Bundle, FileReference
from adq_edge.artifacts.sidecar import Calibration, Sidecar, TensorRTDetails
from adq_edge.calibration.calibrate import calibrate_bundle
from adq_edge.calibration.calibrated_model import CalibratedModel
from adq_edge.calibration.sources import CalibrationSource
from adq_edge.core.files import sha256
from adq_edge.core.options import Device, Precision, RuntimeName, Target
from adq_edge.runtimes.base import Engine


@dataclasses.dataclass(frozen=True)
class BuildInputs:
    """What an engine is made from.

    Attributes:
        bundle: the model's bundle.
        precision: number format of the networks.
        model: the float32 model as `export` wrote it.
        prepared: the equalized model with ranges and rounded weights; None but for INT8.
        float_layers: layers of the networks that an INT8 engine keeps in float.
    """

    bundle: Bundle
    precision: Precision
    model: onnx.ModelProto
    prepared: Optional[CalibratedModel]
    float_layers: Tuple[str, ...] = ()


class BuildResult(NamedTuple):
    """What a maker says of an engine that it wrote.

    Attributes:
        operators: number of operators that the runtime executes, by its own names for them.
        details: of a TensorRT engine.
    """

    operators: Dict[str, int]
    details: Optional[TensorRTDetails] = None


class EngineBuilder(abc.ABC):
    """Makes engines for one device.

    Attributes:
        device: what the engines are for.
        runtime: what runs them.
        version: that runtime's version.
        target: whose integer arithmetic they have.
        suffix: of their files' names.
    """

    device: Device
    runtime: RuntimeName
    version: str
    target: Target
    suffix: str

    @abc.abstractmethod
    def make(self, ingredients: BuildInputs, path: Path) -> BuildResult:
        """Write an engine that was found to load, where it can be loaded.

        Raises:
            BuildError: it cannot be built.
        """

    @abc.abstractmethod
    def open_candidate(
        self, bundle: Bundle, prepared: CalibratedModel, float_layers: Optional[Collection[str]]
    ) -> Engine:
        """Open the INT8 engine with these layers in float, or for None the FP32 one, to measure it."""

    def measure(self, bundle: Bundle, calib: str, images: CalibrationSource, threads: Optional[int]) -> Path:
        """Return the ranges file of a calibrator, `name` or `name:value`, after calibrating if need be.

        Raises:
            CalibrationError: no such calibrator, no image, or an activation that is not finite.
            DataError: an image cannot be read.
        """
        (path,) = calibrate_bundle(bundle, [calib], images, threads=threads)
        return path


def describe(maker: EngineBuilder, bundle: Bundle, engine: Path, precision: Precision, name: str) -> Sidecar:
    """Return the sidecar of an engine file, without what only its making can add."""
    manifest = bundle.manifest
    return Sidecar(
        name=name,
        runtime=maker.runtime.value,
        runtime_version=maker.version,
        device=maker.device.value,
        machine=platform.machine(),
        precision=precision,
        arch=manifest.arch,
        image_size=manifest.image_size,
        map_size=manifest.map_size,
        engine_sha256=sha256(engine),
        model=FileReference(str(bundle.model), manifest.model_sha256),
        operators={},
        calibration=None,
        threshold=None,
        data=manifest.data,
        categories=manifest.categories,
    )


def calibration_of(prepared: CalibratedModel) -> Calibration:
    """Return what a sidecar says of the ranges that an engine was made with."""
    ranges = prepared.ranges
    source = FileReference(prepared.ranges_file.name, sha256(prepared.ranges_file))
    return Calibration(ranges.calibrator, ranges.source, ranges.images, source)
