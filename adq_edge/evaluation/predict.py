"""`predict`: scores, decisions and heat maps of images."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Iterable, Iterator, List, Optional, Sequence, Union

import numpy as np

from adq_edge.artifacts import workspace
from adq_edge.artifacts.sidecar import Threshold
from adq_edge.core.errors import AdqError, DataError
from adq_edge.core.imaging import find_images, overlay, read_image, write_image
from adq_edge.evaluation.scoring import run_engine
from adq_edge.runtimes.base import Engine


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The result of one image.

    Attributes:
        image: the image file.
        score: the anomaly score; None if the image could not be read.
        threshold: the engine's threshold; None if the engine was not evaluated.
        anomalous: True if the score reaches the threshold; None without a score or threshold.
        heat_map: the heat-map overlay; None if none was written.
        error: why the image could not be read; None if it was read.
    """

    image: str
    score: Optional[float] = None
    threshold: Optional[float] = None
    anomalous: Optional[bool] = None
    heat_map: Optional[str] = None
    error: Optional[str] = None


def predict(
    engine: Engine, images: Sequence[Union[str, Path]], *, output: Optional[Path] = workspace.PREDICTIONS
) -> Iterator[Prediction]:
    """Score images one after the other; an image that cannot be read gives a prediction with an error.

    Args:
        engine: a loaded engine.
        images: image files, or folders of images.
        output: folder for the heat-map overlays (colors: see `red_level`); None to write none.

    Yields:
        One prediction per image, in order.

    Raises:
        DataError: a folder without images.
        EngineError: a map or a score is NaN or infinite.
        StorageError: a heat map cannot be written.
    """
    paths = _expand(Path(image) for image in images)
    names = _overlay_names(paths)
    for path, name in zip(paths, names):
        try:
            pixels = read_image(path)
        except AdqError as error:
            yield Prediction(str(path), error=str(error))
            continue
        result = run_engine(engine, pixels, path)
        score, threshold = float(result.scores[0]), engine.sidecar.threshold
        heat_map = None
        if output is not None:
            heat_map = output / name
            write_image(heat_map, overlay(pixels, result.maps[0], 0.0, red_level(result.maps[0], threshold)))
        yield Prediction(
            image=str(path),
            score=score,
            threshold=None if threshold is None else threshold.score,
            anomalous=None if threshold is None else score >= threshold.score,
            heat_map=None if heat_map is None else str(heat_map),
        )


def red_level(anomaly_map: np.ndarray, threshold: Optional[Threshold]) -> float:
    """Return the map value that a heat map shows in red; 0 is blue.

    It is the threshold, or the map's maximum if that is higher. So a normal image has no red pixel.
    """
    peak = float(anomaly_map.max())
    return peak if threshold is None else max(peak, threshold.score)


def _expand(paths: Iterable[Path]) -> List[Path]:
    files: List[Path] = []
    for path in paths:
        if not path.is_dir():
            files.append(path)
            continue
        found = find_images(path)
        if not found:
            raise DataError("no images in this folder", where=path, fix="Name an image or a folder of images")
        files.extend(found)
    return files


def _overlay_names(paths: Sequence[Path]) -> List[str]:
    """Name each overlay after its image; if two images have the same name, folder names are put in front."""
    stems = [path.stem for path in paths]
    unique = len(set(stems)) == len(stems)
    parts = [[path.stem] if unique else [*path.resolve().parts[-4:-1], path.stem] for path in paths]
    return ["_".join(names) + "_heat_map.png" for names in parts]
