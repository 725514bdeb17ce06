"""The result file of `analyze`."""

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
    """The error caused by one quantized layer, all other layers in float32.

    Attributes:
        layer: name of the node.
        operator: operator of the node.
        quantized: False for a layer that the target computes in float32.
        input_ranges: (low, high) of each input activation, in the units of the activation.
        output_range: (low, high) of the output, after the ReLU if one follows.
        clipped: share of the float output values outside the output range, 0 to 1; for a symmetric target the
            range is extended to be symmetric.
        output_snr_db: signal-to-noise ratio of the output over all images, in dB; None if identical to
            float32.
        map_snr_db: signal-to-noise ratio of the anomaly maps, in dB; None if identical to float32.
        score_bias: median of (Q - F) / F over the images, with the float score F and the quantized score Q;
            None if all float scores are 0.
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


@dataclasses.dataclass(frozen=True)
class GroupAnalysis:
    """The error caused by a part of a model, all other layers in float32.

    Attributes:
        group: the part, by the names in the model, such as `backbone.layer1`; else by the size of its maps.
        layers: number of its layers that have weights.
        map_snr_db: as in `LayerAnalysis`, with these layers quantized.
        score_bias: as in `LayerAnalysis`, with these layers quantized.
    """

    group: str
    layers: int
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
    """The error that INT8 causes in a model's outputs on one target.

    The integer arithmetic of the target is simulated in float32; its kernels are not used.

    Attributes:
        bundle: the bundle folder.
        model: the ONNX file of the bundle.
        target: the target: `x86`, `arm` or `tensorrt`.
        calibration: origin of the ranges.
        images: number of analyzed images.
        image_source: source of the analyzed images.
        map_snr_db: as in `LayerAnalysis`, with all layers quantized that the target quantizes.
        score_bias: as in `LayerAnalysis`, with all layers quantized that the target quantizes.
        layers: the layers of the networks, lowest map SNR first, float32 layers last.
        plot: the plot file.
        environment: the machine that ran the analysis.
        groups: the parts of the model, in graph order; empty if it has only one.
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
    groups: Tuple[GroupAnalysis, ...] = ()
