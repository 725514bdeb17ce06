"""`bench --estimate`: estimated latency of a bundle's engines on a Jetson, from the graph only."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Optional, Tuple, Union

import onnx

from adq_edge.artifacts import workspace
from adq_edge.artifacts.bundle import FileReference, open_bundle
from adq_edge.core.errors import BundleError, ResultError
from adq_edge.core.options import COMMON_PRECISIONS, Precision
from adq_edge.core.records import Record, record
from adq_edge.hardware.boards import DEFAULT_BOARD, Board, find_board
from adq_edge.quantization.float_model import read_model
from adq_edge.roofline.efficiency import CHECK
from adq_edge.roofline.published import BOARD, MEASURED_MS
from adq_edge.roofline.roofline import Estimate, estimate_time
from adq_edge.roofline.workload import Layer, find_workload

NOTE = (
    "an estimate, not a measurement: GPU time of a query with TensorRT, batch 1. Lower bound: for each "
    "kernel, "
    "t >= max(2 * MACs / peak, bytes / bandwidth), all weights and activations pass through memory, fused "
    f"operators count once. Expected: a share of the peaks and a time for each kernel, {CHECK}"
)

_FIX = "Estimate again: adq-edge bench --estimate BUNDLE"
_MAX_MS = 1e12


@dataclasses.dataclass(frozen=True)
class EngineEstimate:
    """Estimate for an engine in one precision.

    Attributes:
        precision: number format of the networks.
        gmac: multiply-adds in 10^9.
        weight_mb: parameters in MB (10^6 bytes).
        traffic_mb: transfer of parameters and activations between GPU and memory in MB (10^6 bytes).
        operations_per_byte: arithmetic intensity; a multiply-add is two operations.
        modes: the estimate in each power mode.
        study_ms: published latency of this method in ms; None for other methods.
        layers: the workload of each kernel.
    """

    precision: Precision
    gmac: float
    weight_mb: float
    traffic_mb: float
    operations_per_byte: float
    modes: Tuple[Estimate, ...]
    study_ms: Optional[float]
    layers: Tuple[Layer, ...]


@record("adq-edge/estimate", version=1, error=ResultError, fix=_FIX)
@dataclasses.dataclass(frozen=True)
class ModelEstimate(Record):
    """Estimates for the engines of a model.

    Attributes:
        board: the board of the estimates.
        note: the kind and assumptions of the estimates.
        model: the ONNX file; None for a model in memory.
        engines: one estimate for each precision.
    """

    name: str
    arch: str
    board: str
    note: str
    model: Optional[FileReference]
    engines: Tuple[EngineEstimate, ...]

    def check(self) -> None:
        """Raise a ValueError if an estimate is missing or a time is impossible."""
        if not self.engines or not all(engine.modes for engine in self.engines):
            raise ValueError("has no estimate")
        modes = [mode for engine in self.engines for mode in engine.modes]
        times = [bound for mode in modes for bound in (mode.lower_bound_ms, *mode.range_ms)]
        if not all(0.0 < bound < _MAX_MS for bound in times):
            raise ValueError("has an impossible time")


def estimate(
    bundle: Union[str, Path], output: Optional[Union[str, Path]] = None, *, board: str = DEFAULT_BOARD
) -> ModelEstimate:
    """Estimate the latency of a bundle's engines on a Jetson in each power mode, and write a result file.

    Args:
        output: the result file. Default: `benchmarks/results/NAME.estimate.json`, or
            `NAME.BOARD.estimate.json` for another board than the default one.
        board: name of the board, such as `orin-nano-super`.

    Raises:
        AdqError: no board has this name.
        BundleError: the bundle is missing or damaged, or a tensor has no fixed size.
        StorageError: the result file cannot be written.
    """
    machine = find_board(board)
    opened = open_bundle(Path(bundle))
    manifest = opened.manifest
    source = FileReference(str(opened.model), manifest.model_sha256)
    try:
        result = estimate_model(read_model(opened), manifest.name, manifest.arch, machine, source=source)
    except BundleError as error:
        raise BundleError(error.what, where=opened.model, fix=error.fix) from error
    stem = manifest.name if machine.key == DEFAULT_BOARD else f"{manifest.name}.{machine.key}"
    result.write(workspace.RESULTS / f"{stem}.estimate.json" if output is None else Path(output))
    return result


def estimate_model(
    model: onnx.ModelProto,
    name: str,
    arch: str,
    board: Board,
    *,
    source: Optional[FileReference] = None,
) -> ModelEstimate:
    """Estimate the latency of a model's engines on a board in each power mode.

    Args:
        model: a float model as `export` writes it.
        arch: the method; the result includes the published measurements of it on this board.
        source: the file of the model.

    Raises:
        BundleError: the graph is not valid, or a tensor has no fixed size.
    """
    engines = tuple(_estimate_engine(model, arch, board, precision) for precision in COMMON_PRECISIONS)
    return ModelEstimate(name, arch, board.name, NOTE, source, engines)


def _estimate_engine(model: onnx.ModelProto, arch: str, board: Board, precision: Precision) -> EngineEstimate:
    workload = find_workload(model, precision)
    measured = MEASURED_MS.get(arch, {}) if board.key == BOARD else {}
    return EngineEstimate(
        precision=precision,
        gmac=workload.macs / 1e9,
        weight_mb=workload.weight_bytes / 1e6,
        traffic_mb=workload.bytes / 1e6,
        operations_per_byte=2 * workload.macs / workload.bytes,
        modes=tuple(estimate_time(workload, board, mode) for mode in board.modes),
        study_ms=measured.get(precision),
        layers=workload.layers,
    )
