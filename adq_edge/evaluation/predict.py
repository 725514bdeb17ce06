"""`predict`: scores, verdicts and heat maps of images."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, NamedTuple, Optional, Union

import numpy as np

from adq_edge.artifacts import workspace
from adq_edge.artifacts.sidecar import Threshold
from adq_edge.core.errors import AdqError
from adq_edge.core.files import check_writable
from adq_edge.core.images.heat_map_files import write_heat_map
from adq_edge.core.images.imaging import overlay
from adq_edge.evaluation.image_inputs import RGB, Image, ImageInput, open_inputs
from adq_edge.evaluation.thresholds import explain_missing_threshold, usable_threshold
from adq_edge.runtimes.base import Engine
from adq_edge.runtimes.registry import load_engine
from adq_edge.runtimes.single_image import run_engine

GOOD, ANOMALOUS = "good", "anomalous"


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The result of one image; exactly one of `verdict` and `error` is None.

    Attributes:
        image: the image file, or `array 0` for the first input if it is an array.
        score: the anomaly score, finite; None if the image was not scored.
        threshold: the threshold of the engine; None if it has none for its runtime.
        anomalous: True if the score reaches the threshold; None without a verdict.
        heat_map: the heat-map overlay; None if none was written.
        error: why there is no verdict: the image could not be read, its score or map is NaN or infinite, or
            the engine has no threshold.
        anomaly_map: the anomaly map, float32 `[h, w]`, finite, of the map size in the engine's sidecar; None
            if the image was not scored.
    """

    image: str
    score: Optional[float] = None
    threshold: Optional[float] = None
    anomalous: Optional[bool] = None
    heat_map: Optional[str] = None
    error: Optional[str] = None
    anomaly_map: Optional[np.ndarray] = dataclasses.field(default=None, repr=False, compare=False)

    @property
    def verdict(self) -> Optional[str]:
        """`good` or `anomalous`; None if the image could not be judged, which does not mean good."""
        if self.anomalous is None:
            return None
        return ANOMALOUS if self.anomalous else GOOD

    def fields(self) -> Dict[str, Any]:
        """Return the fields of the JSON line: all but the map."""
        return {
            "image": self.image,
            "verdict": self.verdict,
            "score": self.score,
            "threshold": self.threshold,
            "anomalous": self.anomalous,
            "heat_map": self.heat_map,
            "error": self.error,
        }


class _Predictor(NamedTuple):
    """Predicts images with one engine.

    Attributes:
        engine: the loaded engine.
        threshold: its usable threshold.
        error: why there is no usable threshold; None if there is one.
        output: folder for the heat maps; None to write none.
    """

    engine: Engine
    threshold: Optional[Threshold]
    error: Optional[str]
    output: Optional[Path]

    def predict(self, image: Image) -> Prediction:
        """Return the result of one image."""
        score = None if self.threshold is None else self.threshold.score
        try:
            pixels = image.read()
            output = run_engine(self.engine, pixels, image.name)
        except AdqError as error:
            return Prediction(image.name, threshold=score, error=str(error))
        found = Prediction(
            image=image.name,
            score=float(output.scores[0]),
            threshold=score,
            anomalous=None if score is None else float(output.scores[0]) >= score,
            error=self.error,
            anomaly_map=np.array(output.maps[0]),  # the engine may use its memory again
        )
        if self.output is None:
            return found
        drawn = overlay(pixels, output.maps[0], 0.0, red_level(output.maps[0], self.threshold))
        heat_map = write_heat_map(self.output / image.subfolder, image.stem, drawn)
        return dataclasses.replace(found, heat_map=str(heat_map))


def predict(
    engine: Optional[Union[Engine, str, Path]],
    images: Union[ImageInput, Iterable[ImageInput]],
    *,
    output: Optional[Union[str, Path]] = workspace.PREDICTIONS,
    color: str = RGB,
) -> Iterator[Prediction]:
    """Judge images one after the other.

    An image that cannot be read or judged gives a prediction with an error and no verdict; the others go on.

    Args:
        engine: a loaded engine, an engine file, or None for the newest in `engines/`.
        images: an image file, a folder, an image array, or any number of them; a generator is read image by
            image. A folder is read with all folders below it. Hidden files and heat maps of `predict` are
            skipped. An array is uint8 `[H, W, 3]`, or `[H, W]` for a gray image, of any size.
        output: folder for the heat-map overlays (colors: see `red_level`); None to write none. Each overlay
            is a new file, and the folders of the images are kept: no file is ever overwritten.
        color: order of the channels of arrays: `rgb`, or `bgr` as OpenCV reads them. Files need no order.

    Returns:
        An iterator with one prediction per image, in order. Each keeps its map in memory.

    Raises:
        DataError: a folder without images, or an array of another type or shape.
        EngineError: no such engine, or it cannot be loaded.
        StorageError: a heat map cannot be written.
    """
    inputs = open_inputs(images, color)
    folder = None if output is None else Path(output)
    if folder is not None:
        check_writable(folder / "heat_map.png")
    if isinstance(engine, Engine):
        return _predict(engine, inputs, folder)
    path = workspace.latest_engine() if engine is None else Path(engine)
    return _predict_and_close(load_engine(path), inputs, folder)


def _predict(engine: Engine, images: Iterable[Image], output: Optional[Path]) -> Iterator[Prediction]:
    threshold = usable_threshold(engine)
    error = explain_missing_threshold(engine) if threshold is None else None
    return map(_Predictor(engine, threshold, error, output).predict, images)


def _predict_and_close(
    engine: Engine, images: Iterable[Image], output: Optional[Path]
) -> Iterator[Prediction]:
    with engine:
        yield from _predict(engine, images, output)


def red_level(anomaly_map: np.ndarray, threshold: Optional[Threshold]) -> float:
    """Return the map value that a heat map shows in red; 0 is blue.

    It is the threshold, or the map's maximum if that is higher. So a normal image has no red pixel.
    """
    peak = float(anomaly_map.max())
    return peak if threshold is None else max(peak, threshold.score)
