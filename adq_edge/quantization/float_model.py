"""Holds a bundle's model in memory, for calibration, builders and analysis."""

from __future__ import annotations

import dataclasses

import onnx

from adq_edge.artifacts.bundle import Bundle
from adq_edge.quantization.graph.index import GraphIndex
from adq_edge.quantization.region import Region, find_region


@dataclasses.dataclass(frozen=True)
class FloatModel:
    """A float32 model in the form that `export` writes; passes edit copies of it.

    Attributes:
        proto: the ONNX model.
        index: producers, consumers and constants of its graph.
        region: the networks, which INT8 engines quantize.
    """

    proto: onnx.ModelProto
    index: GraphIndex
    region: Region

    @classmethod
    def of(cls, proto: onnx.ModelProto) -> FloatModel:
        """Return the model of an ONNX graph and find its region."""
        index = GraphIndex(proto.graph)
        return cls(proto, index, find_region(index))

    @classmethod
    def load(cls, bundle: Bundle) -> FloatModel:
        """Load the model of a bundle."""
        return cls.of(onnx.load(str(bundle.model)))
