"""What a building process is told, and what it says of the engine that it built."""

from __future__ import annotations

import dataclasses
import enum
from typing import Dict, Optional, Tuple

from adq_edge.core.errors import BuildError
from adq_edge.core.options import Precision, Route
from adq_edge.core.records import Record, record
from adq_edge.runtimes.tensorrt.release import Flavour

_REMEDY = "Build again"


class OwnCalibrator(str, enum.Enum):
    """TensorRT's own calibrators, which run the network on the GPU (8.5 to 10)."""

    ENTROPY = "trt-entropy"
    MINMAX = "trt-minmax"
    PERCENTILE = "trt-percentile"


@record("adq-edge/tensorrt-job", version=1, error=BuildError, fix=_REMEDY)
@dataclasses.dataclass(frozen=True)
class Job(Record):
    """One engine to build.

    Attributes:
        flavour: which member of the TensorRT family builds.
        model: the ONNX file.
        plan: the file that the engine is written to, a temporary one of the parent's.
        precision: number format of the networks.
        route: who decides on a layer's number format.
        networks: nodes that may compute below float32; all other layers are pinned to it.
        half: nodes among them that stay float16 in an INT8 engine.
        ranges: dynamic range of each tensor as amax, in its own units; for `Route.IMPLICIT`.
        image_size: (height, width) of the input in pixels.
        max_batch: number of images that one query may hold; 1 makes a static engine.
        compute_capabilities: GPUs to compile for, "8.6" and so on; empty for the one that is here.
        dla: the DLA core to run on, with the GPU for what it cannot; None for the GPU alone.
        workspace_mb: memory that a layer's kernel may use while it runs, in MB (10^6 bytes).
        lean: True to leave cuDNN and cuBLAS out, which saves about 1 GB while building.
        timing_cache: file that keeps how fast kernels were; None for none.
        own_calibrator: calibrate with it instead, and write its ranges to the report; no engine is kept.
        images: uint8 `[N, H, W, 3]` array file that it reads.
    """

    flavour: Flavour
    model: str
    plan: str
    precision: Precision
    route: Route
    networks: Tuple[str, ...]
    half: Tuple[str, ...]
    ranges: Dict[str, float]
    image_size: Tuple[int, int]
    max_batch: int
    compute_capabilities: Tuple[str, ...]
    dla: Optional[int]
    workspace_mb: int
    lean: bool
    timing_cache: Optional[str]
    own_calibrator: Optional[OwnCalibrator] = None
    images: Optional[str] = None


@dataclasses.dataclass(frozen=True)
class LayerReport:
    """A layer of a built engine.

    Attributes:
        name: TensorRT's name for it, which lists the nodes that were fused into it.
        kind: TensorRT's type of layer.
        precision: of what it computes: INT8, FP16, FP32 or other.
        device: GPU or DLA.
    """

    name: str
    kind: str
    precision: str
    device: str


@record("adq-edge/tensorrt-report", version=1, error=BuildError, fix=_REMEDY)
@dataclasses.dataclass(frozen=True)
class BuildReport(Record):
    """What a building process says of its engine.

    Attributes:
        release: TensorRT's version.
        compute_capability: of the GPU that it was built on, or for.
        layers: the engine's layers; None where only the GPU that runs it can tell.
        ranges: amax by tensor that TensorRT's own calibrator found.
    """

    release: str
    compute_capability: Optional[str]
    layers: Optional[Tuple[LayerReport, ...]]
    ranges: Optional[Dict[str, float]] = None
