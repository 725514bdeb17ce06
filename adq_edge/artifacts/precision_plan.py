"""The precision plan: the layers that an INT8 engine of one model keeps in float32.

`builders.mixed_precision.search` finds a plan, or a user writes one with the model's hash, the target and the
layers.
"""

from __future__ import annotations

import dataclasses
import enum
from pathlib import Path
from typing import Collection, Optional, Tuple

from adq_edge.artifacts.bundle import FileReference
from adq_edge.artifacts.workspace import SIDECAR_SUFFIX
from adq_edge.core.errors import BuildError
from adq_edge.core.options import Target
from adq_edge.core.records import Record, record

_REMEDY = "Find a plan for this bundle: adq-edge build BUNDLE --int8 --max-drop DROP"


class Measure(str, enum.Enum):
    """Definition of the drop: the quantization loss, which is limited by `max_drop`."""

    IMAGE_AUROC = "image-auroc"
    """Mean image AUROC of FP32 minus that of the engine, on labeled test images."""
    MAP_ERROR = "map-error"
    """Root of sum (A - B)^2 / sum A^2 over the anomaly maps A of FP32 and B of the engine."""


@dataclasses.dataclass(frozen=True)
class Step:
    """An engine measured by the search.

    Attributes:
        float_layers: number of layers in float32, worst first.
        drop: its drop; negative if the engine is better than FP32.
        map_snr_db: 10 log10(sum A^2 / sum (A - B)^2) of FP32's maps A and the engine's maps B, in dB; None if
            they are identical.
        latency_ratio: median latency at batch 1 relative to the engine without float32 layers; None if the
            engine was emulated.
    """

    float_layers: int
    drop: float
    map_snr_db: Optional[float]
    latency_ratio: Optional[float]


@dataclasses.dataclass(frozen=True)
class Search:
    """The search that found a plan.

    Attributes:
        max_drop: the largest allowed drop.
        measure: definition of the drop.
        holds: False if no engine met `max_drop`; the plan is then the nearest one.
        data: folder of the images that the drop was measured on.
        images: number of those images.
        ranges: the ranges file of the engines.
        runtime: the runtime that ran the engines, with its version.
        cpu: processor model of the latency measurements.
        layers: number of layers that the target computes in integers.
        fp32_latency_ratio: median latency of FP32 relative to the engine without float32 layers; None if they
            were emulated.
        steps: the measured engines, fewest float32 layers first.
    """

    max_drop: float
    measure: Measure
    holds: bool
    data: str
    images: int
    ranges: FileReference
    runtime: str
    cpu: str
    layers: int
    fp32_latency_ratio: Optional[float]
    steps: Tuple[Step, ...]


@record("adq-edge/plan", version=1, error=BuildError, fix=_REMEDY)
@dataclasses.dataclass(frozen=True)
class Plan(Record):
    """The layers that an INT8 engine keeps in float32.

    Attributes:
        model_sha256: hash of the bundle's model.
        target: the integer arithmetic.
        float_layers: names of the layers in float32, worst first.
        search: the search that found the plan; None if a user wrote it.
    """

    model_sha256: str
    target: Target
    float_layers: Tuple[str, ...]
    search: Optional[Search] = None


def plan_path(engine: Path) -> Path:
    """Return the path of an engine's plan, in the engine's folder."""
    return engine.with_name(f"{engine.name}.plan{SIDECAR_SUFFIX}")


def read_plan(path: Path, model_sha256: str, layer_names: Collection[str]) -> Plan:
    """Read a plan and check that it belongs to a model.

    Args:
        path: the file.
        model_sha256: hash of the bundle's model.
        layer_names: layers of the model's networks.

    Raises:
        StorageError: the file cannot be read.
        BuildError: not a plan, a plan of another model, or a layer is unknown or named twice.
    """
    plan = Plan.read(path)
    if plan.model_sha256 != model_sha256:
        raise BuildError("plan of another model", where=path, fix=_REMEDY)
    unknown = [name for name in plan.float_layers if name not in layer_names]
    if unknown:
        raise BuildError(f"this model has no layer {unknown[0]!r} to quantize", where=path, fix=_REMEDY)
    twice = [name for number, name in enumerate(plan.float_layers) if name in plan.float_layers[:number]]
    if twice:
        raise BuildError(f"layer {twice[0]!r} is named twice", where=path, fix="Name each layer once")
    return plan
