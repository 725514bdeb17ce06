"""Compares a bundle's graph with the original model on images."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import List, Optional, Sequence, Tuple

import numpy as np
import onnx

from adq_edge.artifacts.bundle import INPUT, MAP_OUTPUT, SCORE_OUTPUT, Parity
from adq_edge.core.errors import ForeignModelError
from adq_edge.core.images.imaging import read_product_image, resize_image
from adq_edge.onnx_import.names import name_in_file
from adq_edge.onnx_import.original import OriginalModel, open_session, run_session
from adq_edge.onnx_import.outputs import FoundOutputs
from adq_edge.onnx_import.postprocessing import Postprocessing

TOLERANCE = 1e-4
"""Largest allowed difference of map and score, relative to the largest value of each."""
FLOAT16_TOLERANCE = 1e-2
"""The same for models that compute in float16: the bundle computes in float32, without their rounding."""

_REPORT = "Please report this with the model"


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What a bundle must reproduce.

    Attributes:
        original: the original model, for images of the bundle's size.
        resizing: the original model with its own resizing of images; None if it has none that is replaced.
        outputs: its map and score.
        map: the post-processing of its map.
        score: the post-processing of its score.
        map_size: (height, width) of its map.
        map_start: (row, column) of the original's map in that of the bundle.
        tolerance: the largest allowed difference, relative to the largest value.
    """

    original: OriginalModel
    resizing: Optional[OriginalModel]
    outputs: FoundOutputs
    map: Optional[Postprocessing]
    score: Optional[Postprocessing]
    map_size: Tuple[int, int]
    map_start: Tuple[int, int]
    tolerance: float


def measure_parity(
    model: onnx.ModelProto, wanted: Wanted, images: np.ndarray, source: str, where: Path
) -> Parity:
    """Compare maps and scores; the bundle runs on one image and on several.

    Args:
        model: the bundle's graph.
        wanted: the original.
        images: uint8 `[N, H, W, 3]`.
        source: where the images come from.
        where: the original file, for messages.

    Raises:
        ForeignModelError: the bundle differs from the original, or a value is not finite.
    """
    session = open_session(model, where)
    groups = [images[:1], *(images[start : start + 3] for start in range(1, len(images), 3))]
    names = (MAP_OUTPUT, SCORE_OUTPUT)
    results = [run_session(session, names, {INPUT: group}, where, _REPORT) for group in groups]
    maps, scores = (np.concatenate(parts) for parts in zip(*results))
    expected_maps, expected_scores = _expected(wanted, wanted.original, images)
    if expected_maps is None:
        expected_maps = np.asarray(expected_scores).reshape(-1, 1, 1)
    if expected_scores is None:
        expected_scores = expected_maps.reshape(len(images), -1).max(axis=1)
    top, left = wanted.map_start
    maps = maps[:, top : top + expected_maps.shape[1], left : left + expected_maps.shape[2]]
    if not all(np.isfinite(array).all() for array in (maps, scores, expected_maps, expected_scores)):
        raise ForeignModelError("gives NaN or infinite maps or scores", where=where, fix="Train it again")
    if len(images) > 1 and (expected_maps == expected_maps[0]).all() and np.ptp(expected_scores) == 0:
        raise ForeignModelError(
            "gives the same map and score for all images", where=where, fix="Export the trained model"
        )
    parity = Parity(
        images=len(images),
        source=source,
        map_difference=float(np.abs(maps - expected_maps).max()),
        score_difference=float(np.abs(scores - expected_scores).max()),
        map_largest=float(np.abs(expected_maps).max()),
        tolerance=wanted.tolerance,
        score_largest=float(np.abs(expected_scores).max()),
    )
    if not parity.holds:
        raise ForeignModelError(
            f"the bundle differs from the original: map by {parity.map_difference:.3g} of "
            f"{parity.map_largest:.3g}, score by {parity.score_difference:.3g} of {parity.score_largest:.3g}",
            where=where,
            fix=_REPORT,
        )
    return parity


def _expected(
    wanted: Wanted, original: OriginalModel, images: np.ndarray
) -> Tuple[Optional[np.ndarray], Optional[np.ndarray]]:
    """Return the raw maps `[N, h, w]` and the raw scores `[N]` of an original model."""
    names = [name_in_file(post.raw) for post in (wanted.map, wanted.score) if post is not None]
    found = original.run(images, names)
    maps = (
        None
        if wanted.map is None
        else found[name_in_file(wanted.map.raw)].reshape(len(images), *wanted.map_size)
    )
    scores = None if wanted.score is None else found[name_in_file(wanted.score.raw)].reshape(-1)
    return maps, scores


def resize_difference(
    model: onnx.ModelProto, wanted: Wanted, paths: Sequence[Path], size: Tuple[int, int], where: Path
) -> Optional[float]:
    """Return the median relative difference of scores between the tool's own resizing and adq-edge's.

    None if the original does not resize, or without images of another size.

    Args:
        model: the bundle's graph.
        wanted: the original.
        paths: image files.
        size: (height, width) of the bundle's image.
        where: the original file, for messages.
    """
    if wanted.resizing is None:
        return None
    session = open_session(model, where)
    differences: List[float] = []
    for path in paths:
        image = read_product_image(path)
        given = image
        if wanted.resizing.image_size is not None:
            given = resize_image(image, wanted.resizing.image_size)
        maps, scores = _expected(wanted, wanted.resizing, given[None])
        theirs = maps.max(axis=(1, 2)) if scores is None and maps is not None else scores
        if theirs is None or given.shape[:2] == tuple(size):
            continue
        feed = {INPUT: resize_image(image, size)[None]}
        (ours,) = run_session(session, [SCORE_OUTPUT], feed, where, _REPORT)
        differences.append(float(abs(ours[0] - theirs[0]) / max(abs(float(theirs[0])), 1e-12)))
    return float(np.median(differences)) if differences else None
