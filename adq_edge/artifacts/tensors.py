"""The inputs and outputs of a model or engine, compared with its description."""

from __future__ import annotations

from typing import Dict, List, Mapping, NamedTuple, Optional, Tuple, Union

from adq_edge.artifacts.bundle import (
    EMBEDDING_OUTPUT,
    INPUT,
    MAP_OUTPUT,
    SCALE_MAP_OUTPUT,
    SCORE_OUTPUT,
    Manifest,
)
from adq_edge.artifacts.sidecar import Sidecar


class TensorType(NamedTuple):
    """The type of a tensor.

    Attributes:
        kind: number format, "uint8" or "float" (of 32 bits) for example.
        shape: sizes of the axes, None for one that is not fixed; None if even the number of axes is unknown.
    """

    kind: str
    shape: Optional[Tuple[Optional[int], ...]]

    def __str__(self) -> str:
        sizes = ["?" if size is None else str(size) for size in self.shape or ()]
        return self.kind if self.shape is None else f"{self.kind} [{', '.join(sizes)}]"

    def can_be(self, wanted: TensorType) -> bool:
        """Return True if a tensor of this type, whose axes may not be fixed, can have the wanted type."""
        if self.shape is None or wanted.shape is None:
            return self.kind == wanted.kind
        if self.kind != wanted.kind or len(self.shape) != len(wanted.shape):
            return False
        return all(
            size is None or (size > 0 if expected is None else size == expected)
            for size, expected in zip(self.shape, wanted.shape)
        )


Tensors = Mapping[str, TensorType]
"""Types of tensors by name."""


Described = Union[Manifest, Sidecar]
"""The description of a model or of an engine."""


def scale_map_names(count: int) -> List[str]:
    """Return the names of the outputs of a number of scale maps, shallow layers first."""
    return [SCALE_MAP_OUTPUT.format(number) for number in range(1, count + 1)]


def output_shapes(described: Described) -> Dict[str, Tuple[int, ...]]:
    """Return the shape of each described output by name, without the axis of images.

    The map and the score are first, then the embedding and the scale maps where there are any.
    """
    shapes: Dict[str, Tuple[int, ...]] = {MAP_OUTPUT: described.map_size, SCORE_OUTPUT: ()}
    if described.embedding_size is not None:
        shapes[EMBEDDING_OUTPUT] = (described.embedding_size,)
    return {**shapes, **dict(zip(scale_map_names(len(described.scale_sizes)), described.scale_sizes))}


def find_mismatch(inputs: Tensors, outputs: Tensors, described: Described) -> Optional[str]:
    """Return how the tensors of a model differ from its description; None if they do not.

    Sizes that are not fixed, the number of images among them, and further outputs are no difference.

    Args:
        inputs: the inputs.
        outputs: the outputs.
        described: the description.
    """
    shapes = output_shapes(described)
    wanted = {name: TensorType("float", (None, *shape)) for name, shape in shapes.items()}
    if set(inputs) != {INPUT}:
        return f"has the inputs {_list(inputs)}, an anomaly model has {INPUT}"
    if not set(outputs) >= set(wanted):
        return f"has the outputs {_list(outputs)}, an anomaly model has {_list(wanted)}"
    for name, expected in {INPUT: TensorType("uint8", (None, *described.image_size, 3)), **wanted}.items():
        found = inputs[name] if name == INPUT else outputs[name]
        if not found.can_be(expected):
            return f"has the tensor {name} as {found}, its description as {expected}"
    return None


def _list(tensors: Tensors) -> str:
    return ", ".join(sorted(tensors)) or "(none)"
