"""Measures of simulated images, and products whose statistics were learned from them."""

from __future__ import annotations

import dataclasses

import numpy as np

from adq_edge.artifacts.products import Product, plain
from adq_edge.decision.health.measures import ImageMeasures, learn_statistics
from factories.decisions import random_product

_EDGE = np.concatenate([np.full(64, 50.0), np.full(64, 150.0)]).astype(np.float32)


def measures(values: np.ndarray, shift: int = 0) -> ImageMeasures:
    """Return measures with light, contrast, sharpness, red and blue from five numbers.

    Args:
        values: five numbers of spread 1.
        shift: shift to the right in 1/128 of the width.
    """
    light, contrast, sharpness, red, blue = (0.1 * np.asarray(values, float)).tolist()
    return ImageMeasures(
        light + 4.0, contrast + 3.0, sharpness - 1.0, red, blue, 0.0, 0.0, _EDGE, np.roll(_EDGE, shift)
    )


def fitted_product(generator: np.random.Generator, images: int = 50, name: str = "gear") -> Product:
    """Return a product whose image statistics are those of normal measures."""
    seen = [measures(row) for row in generator.standard_normal((images, 5))]
    product = random_product(name, images=images)
    scores = plain(np.sort(generator.standard_normal(images).astype(np.float32)))
    statistics = learn_statistics(seen)
    return dataclasses.replace(product, scores=scores, peaks=scores, image_statistics=statistics).sealed()
