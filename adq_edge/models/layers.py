"""The layers whose features a method compares, as a user names them."""

from __future__ import annotations

from typing import Tuple

from adq_edge.core.errors import CheckpointError
from adq_edge.core.text import quoted
from adq_edge.models.resnet import LAYERS


def parse_layers(text: str) -> Tuple[int, ...]:
    """Return the numbers of layers, from 1, in ascending order.

    Args:
        text: names of layers, separated by commas, such as `layer2,layer3`.

    Raises:
        CheckpointError: there is no name, or a name is unknown or repeated.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    fix = f"Name one or more of {', '.join(LAYERS)}, separated by commas"
    if not names:
        raise CheckpointError("no layer is named, so there would be no anomaly map", where="layers", fix=fix)
    for name in names:
        if name not in LAYERS:
            raise CheckpointError(f"there is no layer {quoted(name)}", where="layers", fix=fix)
        if names.count(name) > 1:
            raise CheckpointError(f"{name} is named more than once", where="layers", fix=fix)
    return tuple(sorted(LAYERS.index(name) + 1 for name in names))


def join_layers(levels: Tuple[int, ...]) -> str:
    """Return the text that `parse_layers` reads, such as `layer2,layer3`."""
    return ",".join(LAYERS[level - 1] for level in levels)
