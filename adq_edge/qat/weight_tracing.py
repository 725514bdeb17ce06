"""From torch to ONNX and back: the tensors between networks and scoring, and where every weight is."""

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
from adq_edge.qat.batch_norm_folding import FoldedPair
from adq_edge.quantization.graph.index import GraphIndex

_LARGEST_TAG = 2**24
"""float32 holds whole numbers exactly up to this one."""
_TOLERANCE = 1e-5

_UNSUITED = "Quantize it after training: adq-edge build BUNDLE --int8"


class Networks(NamedTuple):
    """The exported model, and the part of it that `AnomalyModel.networks` computes.

    Attributes:
        model: as `export` writes it.
        image: name of the tensor that holds the normalized image.
        features: names of the tensors that `networks` returns.
    """

    model: onnx.ModelProto
    image: str
    features: Tuple[str, ...]

    @property
    def nodes(self) -> List[onnx.NodeProto]:
        """The nodes between the image and the features, in graph order."""
        producers = GraphIndex(self.model.graph).producers
        wanted: Set[str] = set()
        open_tensors = list(self.features)
        while open_tensors:
            tensor = open_tensors.pop()
            node = producers.get(tensor)
            if tensor != self.image and node is not None and node.name not in wanted:
                wanted.add(node.name)
                open_tensors.extend(node.input)
        return [node for node in self.model.graph.node if node.name in wanted]


class _Tapped(nn.Module):
    """A model that also returns its normalized image and its features."""

    def __init__(self, model: AnomalyModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> Tuple[torch.Tensor, ...]:
        image = self.model.normalize(images)
        features = self.model.networks(image)
        return (*self.model.score(features), image, *features)


def trace(model: AnomalyModel) -> Networks:
    """Export a model and find its networks in the graph.

    Raises:
        CheckpointError: they are not found.
    """
    graph = to_onnx(model, model.config.image_size)
    tapped = to_onnx(_Tapped(model).eval(), model.config.image_size)  # the exporter restores that mode
    places = {tensor: place for place, tensor in _outputs(tapped).items()}
    names = _outputs(graph)
    found = [names.get(places.get(output.name, ("", 0)), "") for output in tapped.graph.output[2:]]
    if not all(found):
        raise CheckpointError(f"the networks of {model.arch} are not found in its graph", fix=_UNSUITED)
    return Networks(graph, found[0], tuple(found[1:]))


def _outputs(model: onnx.ModelProto) -> Dict[Tuple[str, int], str]:
    """Return the tensors that nodes make, by the node's name and the output's position."""
    return {(node.name, i): tensor for node in model.graph.node for i, tensor in enumerate(node.output)}


class Origin(NamedTuple):
    """Where the elements of a constant of the graph come from; arrays of the constant's shape.

    Attributes:
        parameter: 1 + the index in `Origins.parameters`; 0 for elements that come from none.
        element: 1 + the index in that parameter, flattened.
    """

    parameter: np.ndarray
    element: np.ndarray


class Origins(NamedTuple):
    """Where the constants of the networks' graph come from.

    Attributes:
        parameters: names of a folded model's parameters.
        trained: whether each of them is trained.
        constants: origins by the constant's name.
    """

    parameters: Tuple[str, ...]
    trained: Tuple[bool, ...]
    constants: Dict[str, Origin]

    def is_trained(self, constant: str) -> np.ndarray:
        """Return bool of the constant's shape: the elements that are trained."""
        flags = np.array([False, *self.trained])
        return np.asarray(flags[self.constants[constant].parameter])


def find_origins(model: AnomalyModel, pairs: Sequence[FoldedPair], networks: Networks) -> Origins:
    """Find the model's parameters in the graph's constants.

    The model is exported twice with numbers in place of its weights, so the constants say themselves where
    they come from, however the exporter or the method joined, cut or transposed them.

    Args:
        model: a folded model; its weights are left as they are.
        pairs: its folded BatchNorms.
        networks: its graph.

    Raises:
        CheckpointError: a trained weight is not found just once.
    """
    fixed = {f"{pair.norm}.weight" for pair in pairs} | {f"{pair.convolution}.bias" for pair in pairs}
    parameters = {name: value for name, value in model.named_parameters() if name not in fixed}
    if max(parameter.numel() for parameter in parameters.values()) >= _LARGEST_TAG:
        raise CheckpointError(f"a layer of {model.arch} has too many weights", fix=_UNSUITED)
    indices = {name: torch.full_like(p, i + 1.0) for i, (name, p) in enumerate(parameters.items())}
    elements = {name: torch.arange(1.0, p.numel() + 1.0).reshape(p.shape) for name, p in parameters.items()}
    first, second = (_with_tags(model, tags, networks) for tags in (indices, elements))
    constants = {name: Origin(tags, second[name]) for name, tags in first.items() if tags.any()}
    wanted = {id(parameter) for parameter in model.trainable(STUDENT).parameters()}
    trained = tuple(id(parameter) in wanted for parameter in parameters.values())
    return _checked(Origins(tuple(parameters), trained, constants), parameters, networks)


@torch.no_grad()
def _with_tags(
    model: AnomalyModel, tags: Mapping[str, torch.Tensor], networks: Networks
) -> Dict[str, np.ndarray]:
    """Return the constants of the networks' graph with tags in place of weights, as whole numbers."""
    twin = copy.deepcopy(model)
    for name, parameter in twin.named_parameters():
        if name in tags:
            parameter.copy_(tags[name])
    constants = GraphIndex(to_onnx(twin, twin.config.image_size).graph)
    found = {}
    for name in {name for node in networks.nodes for name in node.input}:
        value = constants.constant(name)
        if value is not None and value.dtype == np.float32 and value.ndim > 0:
            found[name] = np.rint(value).astype(np.int64)
    return found


def _checked(origins: Origins, parameters: Mapping[str, nn.Parameter], networks: Networks) -> Origins:
    """Leave out constants that are not equal to what they seem to come from; none of them may be trained."""
    index = GraphIndex(networks.model.graph)
    values = [parameter.detach().cpu().numpy().ravel() for parameter in parameters.values()]
    kept = {
        name: origin
        for name, origin in origins.constants.items()
        if _is_equal(index.constant(name), origin, values)
    }
    counts = [np.zeros(len(value), np.int64) for value in values]
    for origin in kept.values():
        for number in np.unique(origin.parameter[origin.parameter > 0]):
            elements = origin.element[origin.parameter == number] - 1
            counts[number - 1] += np.bincount(elements, minlength=len(counts[number - 1]))
    for name, is_trained, count in zip(origins.parameters, origins.trained, counts):
        if is_trained and not (count == 1).all():
            raise CheckpointError(
                f"the trained weights {name!r} are not found as they are in the exported graph", fix=_UNSUITED
            )
    return origins._replace(constants=kept)


def _is_equal(actual: Optional[np.ndarray], origin: Origin, values: Sequence[np.ndarray]) -> bool:
    """Return True if a constant's elements equal the parameters' elements that its tags name."""
    if actual is None or origin.parameter.min() < 0 or origin.parameter.max() > len(values):
        return False
    for number in np.unique(origin.parameter[origin.parameter > 0]):
        at = origin.parameter == number
        elements = origin.element[at] - 1
        if elements.min() < 0 or elements.max() >= len(values[number - 1]):
            return False
        if not np.allclose(actual[at], values[number - 1][elements], _TOLERANCE, 1e-12):
            return False
    return True
