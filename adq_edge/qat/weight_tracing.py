"""The exported graph of a model, with the tensors of its networks and the places of its weights."""

from __future__ import annotations

import copy
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

import numpy as np
import onnx
import torch
from torch import nn

from adq_edge.core.errors import CheckpointError
from adq_edge.models.base import STUDENT, AnomalyModel
from adq_edge.onnx_export.export import to_onnx
from adq_edge.qat.batch_norm_folding import find_pairs
from adq_edge.quantization.float_model import FloatModel
from adq_edge.quantization.graph.index import GraphIndex

_FIRST_TAG = 0x00800000  # bits of the smallest normal float32; the constants of a graph are larger
_STEP = 4  # between tags, so that one bit of rounding does not matter
_MOST_TAGS = 2**29
_TOLERANCE = 1e-5
_UNSUITED = "Quantize it after training: adq-edge build BUNDLE --int8"


class TracedModel(NamedTuple):
    """The exported graph of a model whose BatchNorms are folded.

    Attributes:
        graph: the graph that `export` writes.
        image: name of the tensor with the normalized images.
        features: names of the tensors that `AnomalyModel.networks` returns.
        parameters: names of the model's parameters in the graph. Their elements, joined in this order, are
            numbered from 0.
        trained: bool for each of these elements.
        places: the elements' numbers by the name of the graph's constant, int32 of its shape; -1 for others.
    """

    graph: FloatModel
    image: str
    features: Tuple[str, ...]
    parameters: Tuple[str, ...]
    trained: np.ndarray
    places: Dict[str, np.ndarray]

    @property
    def nodes(self) -> List[onnx.NodeProto]:
        """The nodes of the networks, in graph order."""
        return _nodes_between(self.graph, self.image, self.features)

    def is_trained(self, constant: str) -> np.ndarray:
        """Return bool of the constant's shape: True for the elements that are trained."""
        places = self.places.get(constant, np.array([-1]))
        return np.asarray(np.append(self.trained, False)[places])

    @torch.no_grad()
    def write_weights(self, model: AnomalyModel, constants: Mapping[str, np.ndarray]) -> None:
        """Copy constants, by name, to the model's parameters."""
        named = dict(model.named_parameters())
        parameters = [named[name] for name in self.parameters]
        joined = _join(parameters)
        for name, value in constants.items():
            inside = self.places[name] >= 0
            joined[self.places[name][inside]] = value[inside]
        _split(torch.from_numpy(joined), parameters)


def trace(model: AnomalyModel) -> TracedModel:
    """Export a model with folded BatchNorms, and find its networks and parameters in the graph.

    Raises:
        CheckpointError: they are not found.
    """
    graph = FloatModel.of(to_onnx(model, model.config.image_size))
    image, *features = _find_tensors(model, graph)
    folded = {
        name for pair in find_pairs(model) for name in (f"{pair.norm}.weight", f"{pair.convolution}.bias")
    }
    parameters = {name: value for name, value in model.named_parameters() if name not in folded}
    constants = {name for node in _nodes_between(graph, image, features) for name in node.input}
    places = _find_places(model, parameters, graph.index, constants)
    wanted = {id(parameter) for parameter in model.trainable(STUDENT).parameters()}
    flags = [id(parameter) in wanted for parameter in parameters.values()]
    trained = np.repeat(flags, [parameter.numel() for parameter in parameters.values()])
    found = np.concatenate([place[place >= 0] for place in places.values()])
    if not np.array_equal(np.sort(found[trained[found]]), np.flatnonzero(trained)):
        what = f"the trained weights of {model.arch} are not found once each in the exported graph"
        raise CheckpointError(what, fix=_UNSUITED)
    return TracedModel(graph, image, tuple(features), tuple(parameters), trained, places)


class _Tapped(nn.Module):
    """A model that also returns its normalized image and its features."""

    def __init__(self, model: AnomalyModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> Tuple[torch.Tensor, ...]:
        image = self.model.normalize(images)
        features = self.model.networks(image)
        return (*self.model.score(features), image, *features)


def _find_tensors(model: AnomalyModel, graph: FloatModel) -> List[str]:
    """Return the names of the normalized image and of the features, found by the nodes that make them."""
    tapped = to_onnx(_Tapped(model).eval(), model.config.image_size)  # the exporter restores this mode
    makers = {tensor: maker for maker, tensor in _outputs(tapped).items()}
    names = _outputs(graph.proto)
    found = [names.get(makers.get(output.name, ("", 0)), "") for output in tapped.graph.output[2:]]
    if not all(found):
        raise CheckpointError(f"the networks of {model.arch} are not found in its graph", fix=_UNSUITED)
    return found


def _outputs(model: onnx.ModelProto) -> Dict[Tuple[str, int], str]:
    """Return the tensors that nodes make, by the node's name and the output's position."""
    return {(node.name, i): tensor for node in model.graph.node for i, tensor in enumerate(node.output)}


def _nodes_between(graph: FloatModel, image: str, features: Sequence[str]) -> List[onnx.NodeProto]:
    wanted: Set[str] = set()
    open_tensors = list(features)
    while open_tensors:
        tensor = open_tensors.pop()
        node = graph.index.producers.get(tensor)
        if tensor != image and node is not None and node.name not in wanted:
            wanted.add(node.name)
            open_tensors.extend(node.input)
    return [node for node in graph.proto.graph.node if node.name in wanted]


def _find_places(
    model: AnomalyModel, parameters: Mapping[str, nn.Parameter], index: GraphIndex, constants: Set[str]
) -> Dict[str, np.ndarray]:
    """Return the numbers of the parameters' elements in each constant of the graph.

    A copy of the model with tags instead of weights is exported, so it does not matter how the exporter or
    the method joins, cuts or transposes the weights. Constants that then differ from the parameters are
    left out.
    """
    joined = _join(list(parameters.values()))
    if len(joined) > _MOST_TAGS:
        raise CheckpointError(f"{model.arch} has too many weights", fix=_UNSUITED)
    tags = torch.arange(len(joined), dtype=torch.int32) * _STEP + _FIRST_TAG
    twin = copy.deepcopy(model)
    named = dict(twin.named_parameters())
    with torch.no_grad():
        _split(tags.view(torch.float32), [named[name] for name in parameters])
    tagged = GraphIndex(to_onnx(twin, twin.config.image_size).graph)
    places = {}
    for name in sorted(constants):
        found, actual = _read_tags(tagged.constant(name), len(joined)), index.constant(name)
        if found is not None and actual is not None:
            inside = found >= 0
            if np.allclose(actual[inside], joined[found[inside]], _TOLERANCE, 1e-12):
                places[name] = found
    return places


def _read_tags(constant: Optional[np.ndarray], count: int) -> Optional[np.ndarray]:
    """Return the number of each element's tag, int32, -1 for elements without; None if none has a tag."""
    if constant is None or constant.dtype != np.float32 or constant.ndim == 0:
        return None
    bits = constant.view(np.int32).astype(np.int64) - _FIRST_TAG
    numbers = (bits + _STEP // 2) // _STEP
    inside = (numbers >= 0) & (numbers < count) & (np.abs(bits - numbers * _STEP) <= 1)
    return np.where(inside, numbers, -1).astype(np.int32) if inside.any() else None


def _join(parameters: Sequence[torch.Tensor]) -> np.ndarray:
    return np.asarray(torch.cat([parameter.detach().flatten() for parameter in parameters]).cpu().numpy())


def _split(joined: torch.Tensor, parameters: Sequence[torch.Tensor]) -> None:
    """Copy the parts of joined elements to the parameters."""
    parts = torch.split(joined, [parameter.numel() for parameter in parameters])
    for parameter, part in zip(parameters, parts):
        parameter.copy_(part.view_as(parameter))
