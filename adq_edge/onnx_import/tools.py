"""Recognizes the tool and the method that a model comes from, and what the tool does with images."""

from __future__ import annotations

import dataclasses
import re
from typing import Iterable, Iterator, Mapping, Optional, Tuple

from adq_edge.onnx_import.source import Source

_ANOMALIB_OUTPUTS = frozenset({"pred_score", "pred_label", "anomaly_map", "pred_mask"})
_METHODS: Mapping[str, str] = {
    "anomaly_dino": "anomalydino",
    "anomalydino": "anomalydino",
    "cfa": "cfa",
    "cflow": "cflow",
    "csflow": "csflow",
    "dfkde": "dfkde",
    "dfm": "dfm",
    "dinomaly": "dinomaly",
    "draem": "draem",
    "dsr": "dsr",
    "efficientad": "efficientad",
    "efficient_ad": "efficientad",
    "fastflow": "fastflow",
    "fre": "fre",
    "ganomaly": "ganomaly",
    "glass": "glass",
    "padim": "padim",
    "patchcore": "patchcore",
    "reversedistillation": "reverse-distillation",
    "reverse_distillation": "reverse-distillation",
    "stfpm": "stfpm",
    "supersimplenet": "supersimplenet",
    "uflow": "uflow",
    "uninet": "uninet",
}
IMPORTED = "imported"
"""The method's name in the manifest if it is not known."""
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclasses.dataclass(frozen=True)
class Tool:
    """The tool that wrote a model.

    Attributes:
        origin: its name for the manifest, such as "anomalib 2 ONNX".
        arch: the method's name; "imported" if it is not known.
        mean: mean that the tool subtracts from pixels 0..1 before the model; None if it subtracts none.
        std: the standard deviation by which it divides.
        is_known: True if it is certain what the tool does with images; if not, that is an assumption.
    """

    origin: str
    arch: str
    mean: Optional[Tuple[float, float, float]] = None
    std: Optional[Tuple[float, float, float]] = None
    is_known: bool = False


def recognize_tool(source: Source) -> Tool:
    """Return the tool that wrote a model, by its outputs, its metadata and names.

    anomalib names a folder after the method. For other tools only the file's name counts: a folder is often
    named after a product, such as glass.
    """
    outputs = {item.name for item in source.model.graph.output}
    inputs = {item.name for item in source.model.graph.input}
    arch = _method(source.path.absolute().parts)
    if source.metadata is not None:
        origin = "anomalib 1 ONNX" if source.metadata.mean is None else "anomalib 0 ONNX"
        return Tool(origin, arch, source.metadata.mean, source.metadata.std, is_known=True)
    if {"pred_score", "pred_label"} <= outputs <= _ANOMALIB_OUTPUTS:
        return Tool("anomalib 2 ONNX", arch, is_known=True)
    arch = _method([source.path.stem])
    if (inputs, outputs) == ({"input"}, {"output_0", "output_1"}):
        return Tool("AnomaVision ONNX", arch, IMAGENET_MEAN, IMAGENET_STD)  # other tools use these names too
    producer = f"{source.model.producer_name} {source.model.producer_version}".strip()
    return Tool(f"ONNX of {producer}" if producer else "ONNX", arch)


def _method(names: Iterable[str]) -> str:
    """Return the only method that occurs in the names; none if there are several or no names of methods."""
    found = {_METHODS[word] for name in names for word in _words(name) if word in _METHODS}
    return found.pop() if len(found) == 1 else IMPORTED


def _words(name: str) -> Iterator[str]:
    """Yield the words of a file's or folder's name, also two neighbours as one: `reverse_distillation`."""
    words = re.findall(r"[a-z0-9]+", name.lower())
    yield from words
    yield from map("_".join, zip(words, words[1:]))
