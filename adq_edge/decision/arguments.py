"""Checks of the arguments of an inspection: false-reject rate, areas, images and products."""

from __future__ import annotations

import collections.abc
import numbers
import os
from typing import Optional

import numpy as np

from adq_edge.artifacts.products import FIT_AGAIN, SMALLEST_RATE, Products, products_path
from adq_edge.core.errors import AdqError, DataError, EngineError
from adq_edge.decision.maps import Maps
from adq_edge.decision.recognition import THUMBNAIL_SIZE
from adq_edge.runtimes.base import Engine, Output


def check_rate(rate: Optional[float]) -> None:
    """Raise an AdqError if a false-reject rate is not from `SMALLEST_RATE` to below 100 %."""
    _require_number(rate, "--false-rejects", "a share such as 0.01")
    if rate is not None and not SMALLEST_RATE <= rate < 1.0:
        what = f"a false-reject rate of {100.0 * rate:g} %"
        fix = f"Give {100.0 * SMALLEST_RATE:.4f} % or more and less than 100 %, such as 1%"
        raise AdqError(what, where="--false-rejects", fix=fix)


def _require_number(value: object, option: str, example: str) -> None:
    """Raise an AdqError if an argument of the Python interface is neither a real number nor None."""
    if value is not None and not isinstance(value, numbers.Real):
        raise AdqError(f"{value!r} is not a number", where=option, fix=f"Give {example}")


def require_same_sizes(engine: Engine, products: Products) -> None:
    """Raise an EngineError if the output sizes of the products and of the sidecar differ."""
    sidecar = engine.sidecar
    blank = [np.zeros((1, *size), np.float32) for size in (sidecar.map_size, *sidecar.scale_sizes)]
    maps = Maps.of(Output(blank[0], np.zeros(1, np.float32), None, tuple(blank[1:])))
    sizes = (maps.raw.shape[1:], maps.deep.shape[1:], sidecar.embedding_size or THUMBNAIL_SIZE)
    for one in products.products:
        found = (one.raw_positions.size, one.deep_positions.size, len(one.recognition.mean))
        if found != sizes:
            what = f"the product {one.name!r} was fitted on an engine with outputs of other sizes"
            raise EngineError(what, where=products_path(engine.path), fix=FIT_AGAIN)


def check_area(pixels: float, share: float) -> None:
    """Raise an AdqError if the smallest area of a region is impossible."""
    for value in (pixels, share):
        _require_number(value, "--min-area", "pixels, or a share of the image such as 0.01")
    if not (np.isfinite(pixels) and pixels >= 0.0):
        raise AdqError(
            f"the smallest area is {pixels:g} pixels", where="--min-area", fix="Give 0 or more pixels"
        )
    if not 0.0 <= share < 1.0:
        what = f"the smallest area is {100.0 * share:g} % of the image"
        raise AdqError(what, where="--min-area", fix="Give 0 % or more, and less than 100 %")


def require_batch(images: object) -> None:
    """Raise a DataError if `images` is a single image: each of its rows would be taken for an image."""
    if isinstance(images, (str, os.PathLike)) or not isinstance(images, collections.abc.Iterable):
        raise DataError("not a list of images", where="images", fix="Use inspect for one image")
    if isinstance(images, np.ndarray) and images.ndim != 4:
        fix = "Give uint8 [N, H, W, 3] or a list of images; use inspect for one image"
        raise DataError(f"its shape is {list(images.shape)}", where="images", fix=fix)
