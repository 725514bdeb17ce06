"""The layers whose features a method compares, as a user names them."""

from __future__ import annotations

import dataclasses
from typing import Tuple, TypeVar

from torch import nn

from adq_edge.core.errors import CheckpointError
from adq_edge.core.text import quoted
from adq_edge.models.config import ModelConfig
from adq_edge.models.resnet import ALL_LAYERS, LAYERS

Model = TypeVar("Model", bound=nn.Module)


def parse_layers(text: str, known: Tuple[str, ...] = LAYERS) -> Tuple[int, ...]:
    """Return the numbers of layers, from 1, in ascending order.

    Args:
        text: names of layers, separated by commas, such as `layer2,layer3`.
        known: names of the layers that there are.

    Raises:
        CheckpointError: there is no name, or a name is unknown or repeated.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    fix = f"Name one or more of {', '.join(known)}, separated by commas"
    if not names:
        raise CheckpointError("no layer is named, so there would be no anomaly map", where="layers", fix=fix)
    for name in names:
        if name not in known:
            raise CheckpointError(f"there is no layer {quoted(name)}", where="layers", fix=fix)
        if names.count(name) > 1:
            raise CheckpointError(f"{name} is named more than once", where="layers", fix=fix)
    return tuple(sorted(ALL_LAYERS.index(name) + 1 for name in names))


def scored_layers(layers: str, known: Tuple[str, ...] = LAYERS) -> Tuple[int, ...]:
    """Return the numbers of the layers that `ModelConfig.layers` names; the first three if it is empty.

    Args:
        layers: names of layers, separated by commas.
        known: names of the layers that the method can compare.

    Raises:
        CheckpointError: see `parse_layers`.
    """
    return parse_layers(layers or ",".join(LAYERS), known)


def join_layers(levels: Tuple[int, ...]) -> str:
    """Return the text that `parse_layers` reads, such as `layer2,layer3`."""
    return ",".join(ALL_LAYERS[level - 1] for level in levels)


def require_layers(levels: Tuple[int, ...], present: Tuple[int, ...]) -> Tuple[int, ...]:
    """Return `levels`, the numbers of layers; check that a model has maps of them.

    Raises:
        CheckpointError: a layer is not among those in `present`.
    """
    for level in levels:
        if level not in present:
            raise CheckpointError(
                f"the checkpoint has no map of {join_layers((level,))}",
                where="layers",
                fix=f"Choose from {join_layers(present)}",
            )
    return levels


def with_config(model: Model, config: ModelConfig, levels: Tuple[int, ...]) -> Model:
    """Return a model with the weights of another one that scores the maps of these layers."""
    other = type(model)(dataclasses.replace(config, layers=join_layers(levels)))
    weights = model.state_dict()
    other.load_state_dict({name: weights[name] for name in other.state_dict()})
    return other.eval()
