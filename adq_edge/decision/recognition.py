"""Recognize the product on an image by the nearest mean embedding, or report it as unknown."""

from __future__ import annotations

import dataclasses
import math
from typing import List, Sequence

import cv2
import numpy as np

from adq_edge.artifacts.products import Product, Recognition, plain
from adq_edge.decision.conformal import Calibration

UNKNOWN_RATE = 0.01
"""The share of good parts that may be called an unknown product."""

_MARGIN = 1.25
_SHARE_OF_DISTANCE = 0.5
_THUMBNAIL = 8
THUMBNAIL_SIZE = 3 * _THUMBNAIL**2
"""Numbers in the embedding of an image, for engines that give none."""


@dataclasses.dataclass(frozen=True)
class Recognized:
    """The product on an image.

    Attributes:
        index: position of the nearest product.
        distance: distance of the image's embedding from that product's mean, in units of the largest distance
            that counts as known.
    """

    index: int
    distance: float

    @property
    def is_known(self) -> bool:
        """True if the distance is at most the largest that counts as known."""
        return self.distance <= 1.0


class Recognizer:
    """Recognizes products; any number of threads may call it.

    Defects move an embedding, but seldom half of the way to another product. A distance counts as known up to
    1.25 times that of good images, and up to half the distance to the nearest other product.

    Args:
        products: the products, at least one.
    """

    def __init__(self, products: Sequence[Product]) -> None:
        self._means = np.array([product.recognition.mean for product in products], np.float64)
        bounds = [_bound(product.recognition) for product in products]
        self._bounds = np.maximum(bounds, _SHARE_OF_DISTANCE * _nearest_others(self._means))

    def recognize(self, embedding: np.ndarray) -> Recognized:
        """Return the product on the image with this embedding, float32 `[D]`."""
        squares = self._means - embedding
        squares *= squares
        distances = squares.sum(axis=1)  # squared
        nearest = int(distances.argmin())
        return Recognized(nearest, math.sqrt(distances[nearest]) / float(self._bounds[nearest]))

    def largest_known(self, index: int) -> float:
        """Return the largest distance from a product's mean that counts as known."""
        return float(self._bounds[index])

    def relative_distance(self, index: int, embedding: np.ndarray) -> Recognized:
        """Return a given product with its relative distance from the image with this embedding."""
        distance = float(np.sqrt(np.square(self._means[index] - embedding).sum()))
        return Recognized(index, distance / float(self._bounds[index]))


def learn_recognition(embeddings: np.ndarray, folds: Sequence[np.ndarray]) -> Recognition:
    """Return a product's mean embedding and the distances of its held-out good images, ascending.

    Args:
        embeddings: embeddings `[N, D]` of the good images.
        folds: indices of the images that are held out together.
    """
    distances: List[float] = []
    for fold in folds:
        others = np.delete(embeddings, fold, axis=0)
        away = embeddings[fold] - others.mean(axis=0)
        distances.extend(np.sqrt(np.square(away).sum(axis=1)).tolist())
    return Recognition(plain(embeddings.mean(axis=0)), plain(sorted(distances)))


def thumbnail_embedding(images: np.ndarray) -> np.ndarray:
    """Return embeddings `[N, 192]` of uint8 `[N, H, W, 3]` images, for engines that give none."""
    size = (_THUMBNAIL, _THUMBNAIL)
    small = [cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in images]
    return np.asarray(np.stack(small).reshape(len(images), -1) / 255.0, np.float32)


def _bound(recognition: Recognition) -> float:
    """Return the largest distance that good images of a product have, with a margin."""
    allowed = Calibration(recognition.distances).threshold_for(UNKNOWN_RATE)
    largest = allowed.score if not allowed.is_estimate else recognition.distances[-1]
    return max(_MARGIN * largest, float(np.finfo(np.float32).eps))


def _nearest_others(means: np.ndarray) -> np.ndarray:
    """Return the distance of each mean `[P, D]` from the nearest other one, 0 if there is none."""
    if len(means) == 1:
        return np.zeros(1)
    distances = np.stack([np.sqrt(np.square(means - one).sum(axis=1)) for one in means])
    np.fill_diagonal(distances, np.inf)
    return np.asarray(distances.min(axis=1))
