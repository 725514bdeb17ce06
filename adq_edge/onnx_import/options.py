"""The options of an import, checked."""

from __future__ import annotations

import dataclasses
import math
from typing import Mapping, Optional, Tuple

from adq_edge.core.errors import ForeignModelError
from adq_edge.core.images.sizes import check_size

Three = Tuple[float, float, float]


@dataclasses.dataclass(frozen=True)
class ImportOptions:
    """What a user states about a model; None for what is recognized in it.

    Attributes:
        input: name of the input for images.
        layout: "nchw" or "nhwc".
        channel_order: "rgb" or "bgr".
        image_size: (height, width) of the image in pixels.
        scale: the factor of pixel values from 0 to 255: 1 keeps them, 1/255 makes them 0 to 1.
        mean: mean of each channel, for pixels from 0 to 1, that is subtracted before the model.
        std: standard deviation of each channel, by which is divided.
        map_output: name of the output with the anomaly map.
        score_output: name of the output with the anomaly score.
        keep_postprocessing: True to keep thresholds, normalization and clipping of the outputs.
        constants: values of further inputs, by name; one value for all elements, or all values.
    """

    input: Optional[str] = None
    layout: Optional[str] = None
    channel_order: Optional[str] = None
    image_size: Optional[Tuple[int, int]] = None
    scale: Optional[float] = None
    mean: Optional[Three] = None
    std: Optional[Three] = None
    map_output: Optional[str] = None
    score_output: Optional[str] = None
    keep_postprocessing: bool = False
    constants: Mapping[str, Tuple[float, ...]] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        _require_choice("--layout", self.layout, ("nchw", "nhwc"))
        _require_choice("--channel-order", self.channel_order, ("rgb", "bgr"))
        if (self.mean is None) != (self.std is None):
            raise ForeignModelError("--mean and --std belong together", fix="Give both, or neither")
        if self.scale is not None and self.mean is not None:
            raise ForeignModelError("--scale and --mean exclude each other", fix="Give one of them")
        if self.scale is not None and not 0 < self.scale < 1e6:
            raise ForeignModelError("--scale is not a positive number", fix="Give 1, or 1/255 as 0.00392157")
        if self.std is not None and not all(0 < value < math.inf for value in self.std):
            raise ForeignModelError(
                "--std has a value that is not positive and finite", fix="Give three positive numbers"
            )
        if self.mean is not None and not all(math.isfinite(value) for value in self.mean):
            raise ForeignModelError("--mean has a value that is not finite", fix="Give three numbers")
        if self.image_size is not None:
            try:
                check_size("--image-size", self.image_size)
            except ValueError as error:
                raise ForeignModelError(str(error), fix="Give another size") from error


def _require_choice(name: str, value: Optional[str], choices: Tuple[str, ...]) -> None:
    if value is not None and value not in choices:
        raise ForeignModelError(f"{name} is {value!r}", fix=f"Give {' or '.join(choices)}")
