"""Colors of heat maps, and the regions that are outlined on them."""

from __future__ import annotations

from typing import Optional, Tuple

import cv2
import numpy as np

from adq_edge.artifacts.sidecar import Threshold
from adq_edge.core.errors import DataError
from adq_edge.core.images.imaging import overlay, read_mask, resize_mask
from adq_edge.datasets.dataset import Sample
from adq_edge.decision.inspector import Inspection

_WHITE, _BLACK, _OUTLINE = (255, 255, 255), (0, 0, 0), (255, 0, 255)
_LINES_ON_IMAGE = 400  # lines as wide as 1/400 of the image's shorter side are visible and hide little


def red_level(anomaly_map: np.ndarray, threshold: Optional[Threshold]) -> float:
    """Return the map value that a heat map shows in red; 0 is blue.

    It is the threshold, or the map's maximum if that is higher. So a normal image has no red pixel.
    """
    peak = float(anomaly_map.max())
    return peak if threshold is None else max(peak, threshold.score)


def outline_defect(cell: np.ndarray, original: np.ndarray, sample: Sample) -> np.ndarray:
    """Return a copy of a cell with the true defect outlined; an image without mask stays as it is.

    Args:
        cell: the image at the size of the cell, uint8 `[h, w, 3]` RGB.
        original: the image at its own size.
        sample: the test image.

    Raises:
        DataError: the mask cannot be read.
    """
    outlined = np.array(cell)
    if sample.mask is not None:
        mask = read_mask(sample.mask, (original.shape[0], original.shape[1]))
        small = resize_mask(mask, (cell.shape[0], cell.shape[1])).astype(np.uint8)
        contours, _ = cv2.findContours(small, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(outlined, contours, -1, _OUTLINE, 1)
    return outlined


def product_colors(inspection: Inspection) -> Tuple[np.ndarray, float, float]:
    """Return a product's map, and the values of it that are shown in blue and in red.

    Blue is the median of good images, and red starts at the threshold.

    Raises:
        DataError: the image could not be judged, so there is no map.
    """
    red = inspection.map_threshold
    if inspection.anomaly_map is None or red is None:
        what = f"has no map to draw ({inspection.reason or inspection.verdict.value})"
        raise DataError(what, where=inspection.image, fix="Draw only inspections with a map")
    return inspection.anomaly_map, min(0.0, red - 1.0), red


def draw_inspection(image: np.ndarray, inspection: Inspection) -> np.ndarray:
    """Return an image with the product's map over it and a box around each region, uint8 `[H, W, 3]` RGB.

    Blue is the median of good images, and red starts at the threshold.

    Args:
        image: uint8 `[H, W, 3]` RGB.
        inspection: the inspection of this image.

    Raises:
        DataError: the image could not be judged, so there is no map.
    """
    drawn = overlay(image, *product_colors(inspection))
    thickness = max(1, min(image.shape[:2]) // _LINES_ON_IMAGE)
    for region in inspection.regions:
        left, top, width, height = region.box
        corners = (left, top), (left + width - 1, top + height - 1)
        cv2.rectangle(drawn, *corners, _BLACK, 3 * thickness)
        cv2.rectangle(drawn, *corners, _WHITE, thickness)
    return drawn
