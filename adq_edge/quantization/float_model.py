"""A bundle's model in memory: loaded once, searched once, shared by calibration, builders and analysis."""

from __future__ import annotations

import dataclasses
from typing import Union

import onnx

from adq_edge.artifacts.bundle import Bundle
from adq_edge.quantization.graph.index import GraphIndex
from adq_edge.quantization.region import Movement, QuantizedOperator, Region, find_region


@dataclasses.dataclass(frozen=True)
class FloatModel:
    """A float32 model as `export` writes it. Edit a `copy`: the original is shared.

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
        """Return the model of a graph, whose region is searched."""
        return cls(proto, GraphIndex(proto.graph), find_region(proto))

    @classmethod
    def load(cls, bundle: Bundle) -> FloatModel:
        """Load the model of a bundle."""
        return cls.of(onnx.load(str(bundle.model)))

    def copy(self) -> FloatModel:
        """Return a copy with nodes and constants of its own."""
        proto = onnx.ModelProto()
        proto.CopyFrom(self.proto)
        return self.with_graph_of(proto)

    def with_graph_of(self, proto: onnx.ModelProto) -> FloatModel:
        """Return the model of an edited copy whose networks have the same operators and tensors."""
        nodes = {node.output[0]: node for node in proto.graph.node}

        def move(step: Union[QuantizedOperator, Movement]) -> Union[QuantizedOperator, Movement]:
            node = nodes[step.node.output[0]]
            if isinstance(step, Movement) or step.activation is None:
                return dataclasses.replace(step, node=node)
            return dataclasses.replace(step, node=node, activation=nodes[step.output])

        region = Region(tuple(move(step) for step in self.region.steps), self.region.made)
        return FloatModel(proto, GraphIndex(proto.graph), region)
