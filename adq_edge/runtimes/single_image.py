"""Runs an engine on one image of any size."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Union

import numpy as np

from adq_edge.core.errors import EngineError
from adq_edge.core.images.imaging import resize_image
from adq_edge.runtimes.base import Engine, Output


def run_engine(engine: Engine, image: np.ndarray, name: Union[str, Path]) -> Output:
    """Run an engine on one image.

    Args:
        engine: the engine.
        image: uint8 `[H, W, 3]` RGB of any size.
        name: the image file or another name of the image, for messages.

    Raises:
        EngineError: an output is NaN or infinite.
    """
    output = engine.run(resize_image(image, engine.sidecar.image_size)[None])
    require_finite(output, engine, name)
    return output


def require_finite(output: Output, engine: Engine, name: Union[str, Path]) -> None:
    """Raise an EngineError if an output of an engine is NaN or infinite."""
    if not is_finite(output):
        raise EngineError(
            f"its anomaly map or score of {name} is NaN or infinite",
            where=engine.path,
            fix="Build the engine in a higher precision",
        )


def is_finite(output: Output) -> bool:
    """Return False if any value of an output is NaN or infinite."""
    return all(map(_is_finite, output.arrays))


def _is_finite(array: np.ndarray) -> bool:
    """Return False if a value is NaN or infinite."""
    has_finite_squares = math.isfinite(np.vdot(array, array))  # fast; squares of finite values may overflow
    return has_finite_squares or bool(np.isfinite(array).all())
