"""A sheet of pictures beside their heat maps, one engine a column."""

from __future__ import annotations

from pathlib import Path
from typing import List, Sequence

import cv2
import numpy as np

from adq_edge.datasets.layout import Sample
from adq_edge.imaging import overlay, read_image, read_mask, resize_image, resize_mask, write_image
from adq_edge.prediction import red_level
from adq_edge.runtimes.base import Engine

_HEADER = 24
_CELL = (256, 256)
_OUTLINE = (255, 0, 255)


def write_heat_map_sheet(path: Path, samples: Sequence[Sample], engines: Sequence[Engine]) -> None:
    """Write one picture: a row per sample, with the picture, its defect outlined, and each engine's heat map.

    Heat maps are scaled as `predict` scales them.

    Raises:
        DataError: a sample cannot be read.
        StorageError: the picture cannot be written.
    """
    columns = ["picture", "defect", *(engine.sidecar.precision.value for engine in engines)]
    rows = [_header(columns)] + [_row(sample, engines) for sample in samples]
    write_image(path, np.concatenate(rows, axis=0))


def _row(sample: Sample, engines: Sequence[Engine]) -> np.ndarray:
    original = read_image(sample.path)
    picture = resize_image(original, _CELL)
    cells = [picture, _outlined(picture, original, sample)]
    for engine in engines:
        anomaly_map = engine.run(resize_image(original, engine.sidecar.image_size)[None]).maps[0]
        cells.append(overlay(picture, anomaly_map, 0.0, red_level(anomaly_map, engine.sidecar.threshold)))
    return np.concatenate(cells, axis=1)


def _outlined(picture: np.ndarray, original: np.ndarray, sample: Sample) -> np.ndarray:
    if sample.mask is None:
        return picture
    mask = read_mask(sample.mask, (original.shape[0], original.shape[1]))
    resized = resize_mask(mask, (picture.shape[0], picture.shape[1])).astype(np.uint8)
    contours, _ = cv2.findContours(resized, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return np.asarray(cv2.drawContours(picture.copy(), contours, -1, _OUTLINE, 1))


def _header(columns: List[str]) -> np.ndarray:
    width = _CELL[1]
    header = np.full((_HEADER, width * len(columns), 3), 255, np.uint8)
    for number, name in enumerate(columns):
        cv2.putText(
            header, name, (number * width + 4, _HEADER - 7), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, 16
        )
    return header
