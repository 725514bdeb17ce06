"""Reads the report of TensorRT's engine inspector: the number format and the device of each layer."""

from __future__ import annotations

import collections
import json
import re
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from adq_edge.artifacts.sidecar import KernelCount
from adq_edge.runtimes.tensorrt.job import LayerReport
from adq_edge.runtimes.tensorrt.release import Release

if TYPE_CHECKING:
    import tensorrt

GPU = "GPU"
DLA = "DLA"
UNKNOWN = "unknown"

_MOVERS = frozenset({"Reformat", "NoOp", "Constant", "Shuffle", "Signal", "Wait"})
"""Types of layers that only move or convert data."""
_PRODUCTS = re.compile("conv|corr|gemm|matrix", re.IGNORECASE)
"""Found in the names of layer types that multiply by weights; TensorRT-RTX says correlation."""
_ROUNDED = frozenset({"INT8", "FP8"})
_JIT = "runtime_fusion"
"""Type of TensorRT-RTX's kernels whose name lists their operators, such as CorrAddRelu."""
_SHORT_NAMES = {
    "FP8E4M3": "FP8",
    "Int8": "INT8",
    "Half": "FP16",
    "FP16": "FP16",
    "Float": "FP32",
    "FP32": "FP32",
}
_MANY_ROUNDING = 0.25
"""Rounding kernels for each integer layer from which FP16 may be faster."""
_NUMBER_FORMAT = re.compile(
    r"\b(Int8|INT8|FP8E4M3|FP8|Half|FP16|Float|FP32|Int32|INT32|BFloat16|BF16|UInt8|Bool)\b"
)


def inspect_engine(release: Release, engine: tensorrt.ICudaEngine) -> Tuple[LayerReport, ...]:
    """Return the layers of an engine that was built with detailed verbosity."""
    inspector = engine.create_engine_inspector()
    return read_layers(inspector.get_engine_information(release.trt.LayerInformationFormat.JSON))


def read_layers(information: str) -> Tuple[LayerReport, ...]:
    """Return the layers of an engine from the JSON of its inspector.

    Depending on the release, the JSON is a list of names, or of objects whose tensors have a
    `Format/Datatype` (8.5 to 10) or a `Datatype` (11). Missing values become `unknown`.
    """
    layers = json.loads(information).get("Layers", [])
    return tuple(read_layer(layer) for layer in layers)


def read_layer(layer: Any) -> LayerReport:
    """Return a layer from its name, or from an object with its name, type, inputs and outputs."""
    if not isinstance(layer, Mapping):
        return LayerReport(str(layer), UNKNOWN, UNKNOWN, UNKNOWN)
    name, kind = str(layer.get("Name", "")), str(layer.get("LayerType", UNKNOWN))
    # All nodes that run on DLA are one layer.
    is_dla = DLA in kind or (name.startswith("{ForeignNode") and DLA in name)
    reads, writes = (
        [_short_name(tensor) for tensor in _tensors(layer, side)] for side in ("Inputs", "Outputs")
    )
    is_product = bool(_PRODUCTS.search(name if kind == _JIT else kind))
    rounds = not is_product and bool(_ROUNDED.intersection(writes)) and not _ROUNDED.issuperset(reads)
    # An integer kernel may write floats.
    device = DLA if is_dla else GPU
    return LayerReport(name, kind, _lowest(reads or writes), device, _lowest(writes), is_product, rounds)


def _lowest(formats: Sequence[Optional[str]]) -> str:
    """Return the lowest of the number formats of some tensors."""
    for candidate in ("INT8", "FP8", "FP16", "FP32"):
        if candidate in formats:
            return candidate
    return next((name for name in formats if name is not None), UNKNOWN)


def _tensors(layer: Mapping[str, Any], side: str) -> Iterator[Mapping[str, Any]]:
    for tensor in layer.get(side) or []:
        if isinstance(tensor, Mapping):
            yield tensor


def _short_name(tensor: Mapping[str, Any]) -> Optional[str]:
    written = f"{tensor.get('Format/Datatype', '')} {tensor.get('Datatype', '')}"
    found = _NUMBER_FORMAT.search(written)
    return None if found is None else _SHORT_NAMES.get(found.group(1), found.group(1).upper())


def computing_layers(layers: Sequence[LayerReport]) -> List[LayerReport]:
    """Return the layers without those that only move or convert data."""
    return [layer for layer in layers if layer.kind not in _MOVERS]


def count_precisions(layers: Sequence[LayerReport]) -> Dict[str, int]:
    """Count the computing layers by number format, and those on DLA a second time as `DLA`."""
    computing = computing_layers(layers)
    counts = collections.Counter(layer.precision for layer in computing)
    on_dla = sum(layer.device == DLA for layer in computing)
    return {**dict(sorted(counts.items())), **({DLA: on_dla} if on_dla else {})}


def count_kinds(layers: Sequence[LayerReport]) -> Dict[str, int]:
    """Count all layers by TensorRT's layer type."""
    return dict(sorted(collections.Counter(layer.kind for layer in layers).items()))


def count_kernels(layers: Sequence[LayerReport]) -> Tuple[KernelCount, ...]:
    """Count all layers by type and number formats, in alphabetical order."""
    counts = collections.Counter((layer.kind, layer.precision, layer.writes) for layer in layers)
    return tuple(KernelCount(*key, count) for key, count in sorted(counts.items()))


def describe_rounding(layers: Sequence[LayerReport]) -> Optional[str]:
    """Return a warning if many kernels only round for the integer layers; None if few do."""
    products = [layer for layer in layers if layer.is_product]
    counts = collections.Counter(layer.precision for layer in products if layer.precision in _ROUNDED)
    name, integers = counts.most_common(1)[0] if counts else ("INT8", 0)
    rounding = sum(layer.rounds for layer in layers)
    if not rounding or rounding < _MANY_ROUNDING * integers:
        return None
    return (
        f"{integers} of {len(products)} layers with weights are {name}, but {rounding} separate kernels "
        "round for them: FP16 may be faster, so build it too (--fp16) and measure both"
    )
