"""Sheets of heat maps as images inside the page."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Iterator, NamedTuple, Sequence

import cv2

from adq_edge.core.errors import AdqError
from adq_edge.core.images.imaging import read_image

_MOST_SHEETS = 4
_LARGEST_WIDTH = 1200
_LARGEST_HEIGHT = 6000
_QUALITY = 80


class Sheet(NamedTuple):
    """A sheet as JPEG in base64; width and height in pixels."""

    title: str
    data: str
    width: int
    height: int


def embed_sheets(paths: Sequence[Path]) -> Iterator[Sheet]:
    """Yield the first sheets that can be read, reduced to the width of the page."""
    for path in paths[:_MOST_SHEETS]:
        try:
            image = read_image(path)
        except AdqError:  # the report does not depend on it
            continue
        height, width = image.shape[:2]
        scale = min(1.0, _LARGEST_WIDTH / width, _LARGEST_HEIGHT / height)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        parameters = [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]
        _, content = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), parameters)
        title = f"Images on which two engines differ most: {path.stem}"
        yield Sheet(title, base64.b64encode(content.tobytes()).decode("ascii"), *size)
