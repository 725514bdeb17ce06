"""The file `decision.txt`: what a C++ program needs to decide as `predict` does, without a JSON library.

It is ASCII text of words that are separated by blanks and line ends. Numbers are C's hexadecimal floats,
which have no rounding. docs/package.md describes each line.
"""

from __future__ import annotations

import json
import math
from typing import Iterable, Iterator, List, Sequence, Tuple

import numpy as np

from adq_edge.artifacts.products import (
    LARGEST_GRID,
    EvidenceKind,
    Positions,
    Product,
    Transform,
    products_path,
)
from adq_edge.core.errors import EngineError
from adq_edge.decision.inspector import Inspector
from adq_edge.decision.normal import scores_of

NAME = "decision.txt"
_VERSION = 1
_LARGEST_FLOAT = 0x7F7FFFFF  # place of the largest finite float32 number among all of them
_DEEP_GRID = 16
_THUMBNAIL = 8


def encode_decisions(inspector: Inspector) -> bytes:
    """Return the content of `decision.txt` for an engine with products.

    Raises:
        EngineError: the products are recognized by thumbnails of another size than a multiple of 8.
    """
    engine = inspector.engine
    sidecar, outputs = engine.sidecar, list(engine.outputs)
    height, width = sidecar.image_size
    if sidecar.embedding_size is None and (height % _THUMBNAIL or width % _THUMBNAIL):
        what = "its products are recognized by thumbnails, which C++ makes of sides in multiples of 8 only"
        where, fix = products_path(engine.path), "Build the engine from a model with an embedding"
        raise EngineError(f"{what}; this input is {height}x{width}", where=where, fix=fix)
    lines = [
        ("adq-edge-decision", _VERSION),
        ("engine", sidecar.engine_sha256),
        ("image", height, width),
        ("outputs", len(outputs), *outputs),
        ("map", *_blocks(sidecar.map_size, LARGEST_GRID)),
        ("deep", *_deep_blocks(sidecar.map_size, sidecar.scale_sizes)),
        ("embedding", sidecar.embedding_size or 0),
        ("products", len(inspector.products.products)),
    ]
    for product in inspector.products.products:
        lines += _product_lines(inspector, product)
    return "".join(" ".join(map(str, line)) + "\n" for line in [*lines, ("end",)]).encode("ascii")


def _blocks(size: Tuple[int, int], largest: int) -> Tuple[int, int, int]:
    """Return the (height, width) of a map and the side of the blocks that reduce it."""
    return (*size, -(-max(size) // largest))


def _deep_blocks(map_size: Tuple[int, int], scale_sizes: Sequence[Tuple[int, int]]) -> Tuple[object, ...]:
    """Return how the deep map is made: of the last scale map, or of means of the reduced map."""
    if scale_sizes:
        return ("scale", *_blocks(scale_sizes[-1], LARGEST_GRID))
    block = _blocks(map_size, LARGEST_GRID)[2]
    reduced = (-(-map_size[0] // block), -(-map_size[1] // block))
    return ("mean", *_blocks(reduced, _DEEP_GRID))


def _product_lines(inspector: Inspector, product: Product) -> Iterator[Tuple[object, ...]]:
    threshold = inspector.thresholds_in_force(product.name)[0]
    kinds = [one.kind for one in product.evidence]
    yield ("product", json.dumps(product.name))
    yield ("raw", *_transform(product.raw))
    yield ("deep", *_transform(product.deep))
    yield ("threshold", threshold.hex())
    yield ("limit", _largest_good_score(product, threshold).hex() if kinds == [EvidenceKind.RAW] else "none")
    yield ("bound", inspector.largest_known_distance(product.name).hex())
    yield ("mean", len(product.recognition.mean), *_hex(product.recognition.mean))
    yield ("evidence", len(product.evidence))
    for one in product.evidence:
        yield (one.kind.value, *_hex((float(np.float32(one.center)), float(np.float32(one.spread)))))
    yield from _position_lines("raw_position", product.raw_positions, EvidenceKind.RAW_POSITION in kinds)
    yield from _position_lines("deep_position", product.deep_positions, EvidenceKind.DEEP_POSITION in kinds)


def _transform(transform: Transform) -> Tuple[str, str]:
    return ("log" if transform.log else "same", float(np.float32(transform.floor)).hex())


def _position_lines(name: str, positions: Positions, is_used: bool) -> Iterator[Tuple[object, ...]]:
    """Yield mean and spread of each position, rounded to float32; nothing if no evidence needs them."""
    size = positions.size if is_used else (0, 0)
    given = (positions.mean, positions.spread) if is_used else ((), ())
    mean, spread = (np.array(one, np.float32) for one in given)
    yield (f"{name}s", *size, *_hex(mean.tolist()), *_hex(spread.tolist()))


def _hex(values: Iterable[float]) -> List[str]:
    return [value.hex() for value in values]


def _largest_good_score(product: Product, threshold: float) -> float:
    """Return the largest score of the engine whose normalized score is at the threshold or below.

    A product whose only evidence is the engine's score is then judged without a logarithm, whose last bit
    differs between numpy and the C library: the good image that gave the threshold is good in both.
    """

    def is_good(place: int) -> bool:
        score = np.array([_float_at(place)], np.float32)
        with np.errstate(over="ignore"):  # of scores far above those of images
            return float(scores_of(score, score, product.evidence, product.raw)[0]) <= threshold

    low, high = -_LARGEST_FLOAT, _LARGEST_FLOAT
    if not is_good(low):
        return -math.inf
    while low < high:  # the normalized score rises with the engine's score
        middle = (low + high + 1) // 2
        low, high = (middle, high) if is_good(middle) else (low, middle - 1)
    return _float_at(low)


def _float_at(place: int) -> float:
    """Return the finite float32 number at a place in their order; 0 is at 0."""
    bits = place if place >= 0 else 0x80000000 - place
    return float(np.array([bits], np.uint32).view(np.float32)[0])
