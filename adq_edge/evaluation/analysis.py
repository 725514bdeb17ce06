"""The record of `analyze`: what INT8 costs a model, layer by layer."""

from __future__ import annotations

import dataclasses
from typing import Optional, Tuple

from adq_edge.artifacts.bundle import FileReference
from adq_edge.artifacts.sidecar import Calibration
from adq_edge.core.errors import ResultError
from adq_edge.core.records import Record, record
from adq_edge.hardware.environment import Environment

Range = Tuple[float, float]


@dataclasses.dataclass(frozen=True)
class LayerAnalysis:
    """What it costs to quantize one layer alone, all others float32.

    Attributes:
        layer: the node's name.
        operator: the node's operator.
        quantized: False for a layer that the target leaves in float32.
        input_ranges: (low, high) of each activation that it reads, in the activation's own units.
        output_range: (low, high) of what it gives, after its ReLU if it has one.
        clipped: share of its float output values outside that range on the images, 0 to 1; a symmetric grid
            reaches as far below zero as above.
        output_snr_db: 10 log10(sum F^2 / sum (F - Q)^2) over all values of its output on all images, F in
            float32 and Q quantized, in dB; None: identical.
        map_snr_db: the same ratio of the anomaly maps, in dB; None: identical.
        score_bias: median of (Q - F) / F over the images' scores; None if all float scores are 0.
    """

    layer: str
    operator: str
    quantized: bool
    input_ranges: Tuple[Range, ...]
    output_range: Range
    clipped: float
    output_snr_db: Optional[float]
    map_snr_db: Optional[float]
    score_bias: Optional[float]


@record(
    "adq-edge/analysis",
    version=3,
    error=ResultError,
    fix="Analyze again: adq-edge analyze BUNDLE",
    older={2: {"pictures": "images", "picture_source": "image_source"}},
)
@dataclasses.dataclass(frozen=True)
class Analysis(Record):
    """What INT8 costs a model on one kind of machine, and where.

    The arithmetic is the target's; it is computed here in float32, not by the target's kernels.

    Attributes:
        bundle: the bundle's folder.
        model: the bundle's ONNX file.
        target: whose integer arithmetic.
        calibration: where the ranges came from.
        images: number of images measured with.
        image_source: where they came from.
        map_snr_db: as of `LayerAnalysis`, with every layer quantized that the target quantizes.
        score_bias: as of `LayerAnalysis`, with every layer quantized that the target quantizes.
        layers: the networks' layers, lowest SNR of the maps first; those in float32 last.
        plot: the image of the layers' damage.
        environment: the machine that measured.
    """

    bundle: str
    model: FileReference
    target: str
    calibration: Calibration
    images: int
    image_source: str
    map_snr_db: Optional[float]
    score_bias: Optional[float]
    layers: Tuple[LayerAnalysis, ...]
    plot: str
    environment: Environment
