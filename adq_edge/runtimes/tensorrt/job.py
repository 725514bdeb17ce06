"""The request to a build process, and its report on the engine that it built."""

from __future__ import annotations

import dataclasses
import enum
from typing import Dict, Optional, Tuple

from adq_edge.core.options import Precision, Route


class OwnCalibrator(str, enum.Enum):
    """TensorRT's own calibrators, which run the network on the GPU (8.5 to 10)."""

    ENTROPY = "trt-entropy"
    MINMAX = "trt-minmax"
    PERCENTILE = "trt-percentile"


@dataclasses.dataclass(frozen=True)
class Job:
    """One engine to build.

    Attributes:
        runtime: name of the runtime, "tensorrt" or "tensorrt-rtx".
        model: the ONNX file.
        plan: the file that the engine is written to, a temporary file of the parent process.
        precision: number format of the networks.
        route: what decides the number format of a layer.
        networks: nodes that may compute below float32; all other layers are pinned to float32.
        half: nodes among them that stay float16 in an INT8 engine.
        ranges: dynamic range of each tensor as amax, in the tensor's units; for implicit quantization.
        image_size: (height, width) of the input in pixels.
        max_batch: largest number of images in one query; 1 makes a static engine.
        compute_capabilities: GPUs to compile for, "8.6" for example; empty for the GPU of this machine.
        dla: the DLA core to run on, with the GPU as fallback; None for the GPU only.
        workspace_mb: memory that a layer's kernel may use while it runs, in MB (10^6 bytes).
        lean: True to exclude cuDNN and cuBLAS, which saves about 1 GB during the build.
        timing_cache: file that keeps the measured times of kernels; None for no such file.
        calibration_cache: True to pass the ranges by a calibration cache too, for implicit INT8 on DLA.
        own_calibrator: calibrate with this TensorRT calibrator and report the ranges; no engine is kept.
        images: file with the array uint8 `[N, H, W, 3]` that `own_calibrator` reads.
        sparse: True to look for kernels that skip weights of zero.
    """

    runtime: str
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
    calibration_cache: bool = False
    own_calibrator: Optional[OwnCalibrator] = None
    images: Optional[str] = None
    sparse: bool = False


@dataclasses.dataclass(frozen=True)
class LayerReport:
    """A layer of a built engine.

    Attributes:
        name: TensorRT's name for the layer, which lists the nodes that were fused into it.
        kind: TensorRT's type of layer.
        precision: number format of the computation: INT8, FP16, FP32 or another.
        device: GPU or DLA.
        writes: lowest number format of its results.
        is_product: True if it multiplies by weights: convolutions and matrix products.
        rounds: True if it has no weights and rounds its inputs to INT8 or FP8.
    """

    name: str
    kind: str
    precision: str
    device: str
    writes: str = "unknown"
    is_product: bool = False
    rounds: bool = False


@dataclasses.dataclass(frozen=True)
class BuildReport:
    """The report of a build process on its engine.

    Attributes:
        release: version of TensorRT.
        compute_capability: compute capability of the GPU that the engine was built for.
        layers: layers of the engine; None if the release lists none.
        ranges: amax by tensor, found by TensorRT's own calibrator.
    """

    release: str
    compute_capability: Optional[str]
    layers: Optional[Tuple[LayerReport, ...]]
    ranges: Optional[Dict[str, float]] = None
