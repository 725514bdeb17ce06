"""Sheets of test images beside their heat maps, one column per engine."""

from __future__ import annotations

from pathlib import Path
from typing import List, Optional, Sequence, Tuple

import cv2
import numpy as np

from adq_edge.artifacts.sidecar import Threshold
from adq_edge.core.images.imaging import overlay, read_image, resize_image, write_sheet
from adq_edge.datasets.dataset import Sample
from adq_edge.evaluation.overlays import outline_defect, red_level
from adq_edge.evaluation.sensitivity_plot import shorten_name
from adq_edge.evaluation.thresholds import usable_threshold
from adq_edge.metrics.agreement import ImageAgreement
from adq_edge.runtimes.base import Engine
from adq_edge.runtimes.single_image import run_engine

_STRIP = 24
_CELL = (256, 256)
_NAME_LENGTH = 30
_COMPARED = 5
"""Cells in a row of a comparison sheet."""


def write_heat_map_sheet(path: Path, samples: Sequence[Sample], engines: Sequence[Engine]) -> None:
    """Write one image with a row per sample: image, outlined defect, and a heat map per engine.

    Colors are scaled as by `predict`.

    Raises:
        DataError: a sample cannot be read.
        StorageError: the image cannot be written.
    """
    columns = ["image", "defect", *(engine.sidecar.precision.value for engine in engines)]
    rows = [_strip(columns, len(columns))] + [_row(sample, engines) for sample in samples]
    write_sheet(path, np.concatenate(rows, axis=0))


def write_comparison_sheet(
    path: Path,
    samples: Sequence[Tuple[Sample, ImageAgreement]],
    engines: Tuple[Engine, Engine],
    thresholds: Tuple[Optional[Threshold], Optional[Threshold]],
) -> None:
    """Write one image with a captioned row per sample that shows where two engines differ.

    A row contains the image, its outlined defect, both heat maps and the absolute difference of the maps. The
    heat maps have one color scale: red is the higher of the two `red_level`. The difference has its own: red
    is its maximum. The caption contains scores, decisions, the relative difference of the scores and the
    largest difference of the maps.

    Args:
        path: the image file.
        samples: the test images and the results of both engines.
        engines: engines A and B.
        thresholds: the decision thresholds of A and B, which may differ from those in the sidecars.

    Raises:
        DataError: a sample cannot be read.
        StorageError: the image cannot be written.
    """
    names = [f"{letter}: {engine.sidecar.precision.value}" for letter, engine in zip("AB", engines)]
    columns = ["image", "defect", *names, "difference, own scale"]
    rows = [_strip(columns, len(columns))]
    for sample, agreement in samples:
        rows += [_strip(_captions(agreement), len(columns)), _comparison_row(sample, engines, thresholds)]
    write_sheet(path, np.concatenate(rows, axis=0))


def cut_comparison_sheet(sheet: np.ndarray, count: int) -> Optional[List[List[np.ndarray]]]:
    """Return the cells of each row of a comparison sheet; None if a sheet of `count` rows differs in size."""
    height, width = _CELL
    columns = sheet.shape[1] // width
    if columns != _COMPARED or sheet.shape[:2] != (_STRIP + count * (_STRIP + height), _COMPARED * width):
        return None
    tops = [_STRIP + number * (_STRIP + height) + _STRIP for number in range(count)]
    lefts = [width * number for number in range(_COMPARED)]
    return [[sheet[top : top + height, left : left + width] for left in lefts] for top in tops]


def _row(sample: Sample, engines: Sequence[Engine]) -> np.ndarray:
    original, cells = _image_cells(sample)
    for engine in engines:
        anomaly_map = run_engine(engine, original, sample.path).maps[0]
        cells.append(overlay(cells[0], anomaly_map, 0.0, red_level(anomaly_map, usable_threshold(engine))))
    return np.concatenate(cells, axis=1)


def _comparison_row(
    sample: Sample, engines: Sequence[Engine], thresholds: Sequence[Optional[Threshold]]
) -> np.ndarray:
    original, cells = _image_cells(sample)
    map_a, map_b = (run_engine(engine, original, sample.path).maps[0] for engine in engines)
    red = max(map(red_level, (map_a, map_b), thresholds))
    difference = np.abs(map_a - map_b)
    for shown, high in ((map_a, red), (map_b, red), (difference, float(difference.max()))):
        cells.append(overlay(cells[0], shown, 0.0, high))
    return np.concatenate(cells, axis=1)


def _captions(image: ImageAgreement) -> List[str]:
    """Return the caption of each cell of a row."""
    decisions = {None: "", True: "anomalous", False: "normal"}
    name = shorten_name(f"{image.category}/{image.defect}/{Path(image.image).name}", _NAME_LENGTH)
    if image.flips:
        at = {(True, False): " at own thresholds", (False, True): " at A's threshold"}
        name += ": flips" + at.get((image.flips_own, image.flips_at_a), "")
    relative = image.relative_difference
    score = "A's score is 0" if relative is None else f"score {100 * relative:+.2f} %"
    return [
        name,
        "",
        f"{image.score_a:.4g} {decisions[image.anomalous_a]}",
        f"{image.score_b:.4g} {decisions[image.anomalous_b]}",
        f"{score}, map {image.map_difference:.2g}",
    ]


def _image_cells(sample: Sample) -> Tuple[np.ndarray, List[np.ndarray]]:
    """Return the image at full size, and two cells: the image without and with its outlined defect."""
    original = read_image(sample.path)
    image = resize_image(original, _CELL)
    return original, [image, outline_defect(image, original, sample)]


def _strip(texts: Sequence[str], columns: int) -> np.ndarray:
    """Return a white strip as wide as `columns` cells, with each text at the left edge of its cell."""
    width = _CELL[1]
    strip = np.full((_STRIP, width * columns, 3), 255, np.uint8)
    for number, text in enumerate(texts):
        place = (number * width + 4, _STRIP - 7)
        cv2.putText(strip, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
    return strip
