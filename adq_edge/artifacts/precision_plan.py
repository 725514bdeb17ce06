"""The precision plan: which layers an INT8 engine keeps in float32, and what they were chosen for.

A plan belongs to one model. `builders.mixed_precision.search` finds one, or a user writes it: required are
the model's hash, the target and the layers.
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
    """What the quantization cost, as the number that must not exceed `max_drop`."""

    IMAGE_AUROC = "image-auroc"
    """FP32's mean image AUROC less the engine's, on labelled test images: 0 is none lost."""
    MAP_ERROR = "map-error"
    """Root of sum (A - B)^2 / sum A^2 over the anomaly maps A of FP32 and B of the engine: 0 is identical."""


@dataclasses.dataclass(frozen=True)
class Step:
    """One engine that the search measured.

    Attributes:
        float_layers: number of layers in float32, the worst ones.
        drop: in the search's measure; negative where the engine is better than FP32.
        map_snr_db: 10 log10(sum A^2 / sum (A - B)^2) of FP32's maps A and the engine's maps B on the search's
            images, in dB; None: identical.
        latency_ratio: median latency at batch 1 relative to the engine without float32 layers; None where the
            engine was emulated.
    """

    float_layers: int
    drop: float
    map_snr_db: Optional[float]
    latency_ratio: Optional[float]


@dataclasses.dataclass(frozen=True)
class Search:
    """What a plan was chosen for, and how.

    Attributes:
        max_drop: the largest drop allowed.
        measure: what the drop is.
        holds: False if no plan reached `max_drop` and the nearest one was taken.
        data: where the images of the measure came from.
        images: number of those images.
        ranges: the ranges file that the engines were quantized with.
        runtime: what ran the engines, with its version.
        cpu: the processor's model, to which the latency ratios belong.
        layers: number of layers that could be kept in float32.
        fp32_latency_ratio: the FP32 engine's median latency relative to the all-INT8 engine's; None where
            they were emulated.
        steps: the engines measured, fewest float32 layers first.
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
    """Which layers an INT8 engine of a model keeps in float32.

    Attributes:
        model_sha256: hash of the bundle's model.
        target: the arithmetic that it was made for.
        float_layers: names of the layers in float32, in the order in which they were chosen, worst first.
        search: how it was found; None for one written by hand.
    """

    model_sha256: str
    target: Target
    float_layers: Tuple[str, ...]
    search: Optional[Search] = None


def plan_path(engine: Path) -> Path:
    """Return where the plan that was found for an engine lies: beside it."""
    return engine.with_name(f"{engine.name}.plan{SIDECAR_SUFFIX}")


def read_plan(path: Path, model_sha256: str, layer_names: Collection[str]) -> Plan:
    """Read a plan and check it against the model it is meant for.

    Args:
        path: the file.
        model_sha256: hash of the bundle's model.
        layer_names: the layers that can be kept in float32.

    Raises:
        StorageError: the file cannot be read.
        BuildError: not a plan, or one of another model, with a layer that this one has not or with one twice.
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
