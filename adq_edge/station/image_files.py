"""The image files of a store: images as they came, and overlays with map and regions."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import Callable, Dict, Optional, Tuple

import cv2
import numpy as np

from adq_edge.core.errors import AdqError
from adq_edge.core.images.encoded import read_image_file
from adq_edge.core.images.header import read_header
from adq_edge.core.images.output_mark import add_mark
from adq_edge.evaluation.overlays import draw_inspection
from adq_edge.station.events import Decided
from adq_edge.station.records import is_frame_file

FOLDER = "images"
_FAST_PNG = (cv2.IMWRITE_PNG_COMPRESSION, 1)
_OVERLAY = (cv2.IMWRITE_JPEG_QUALITY, 90)


@dataclasses.dataclass(frozen=True)
class KeptImages:
    """The image files of a verdict, relative to the folder of the store.

    Attributes:
        image: the image; None if it is not kept.
        overlay: the image with map and regions; None if it is not kept, or there is no map.
        size: bytes of both.
    """

    image: Optional[str] = None
    overlay: Optional[str] = None
    size: int = 0

    @property
    def names(self) -> Tuple[str, ...]:
        """The files that exist."""
        return tuple(name for name in (self.image, self.overlay) if name is not None)


NO_IMAGES = KeptImages()


class ImageFiles:
    """The image files below a folder, in a folder for each day.

    Args:
        folder: the folder of the store.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, decided: Decided) -> KeptImages:
        """Write the image and the overlay of a verdict; of a frame without an image, nothing.

        Raises:
            OSError: the disk is full, or the folder cannot be written to; no file is left then.
        """
        contents = {} if decided.pixels is None else _encode(decided, decided.pixels)
        if not contents:
            return NO_IMAGES
        place = f"{FOLDER}/{str(decided.record['taken_at'])[:10]}"
        (self._folder / place).mkdir(parents=True, exist_ok=True)
        names = [f"{place}/{name}" for name in contents]
        kept = KeptImages(names[0], names[1] if len(names) > 1 else None, sum(map(len, contents.values())))
        try:
            for name, content in zip(names, contents.values()):
                (self._folder / name).write_bytes(content)
        except OSError:
            self.delete(kept)
            raise
        return kept

    def delete(self, kept: KeptImages) -> None:
        """Delete the files of a verdict."""
        for name in kept.names:
            with contextlib.suppress(OSError):
                (self._folder / name).unlink()

    def delete_unless(self, is_known: Callable[[str], bool]) -> None:
        """Delete the files of frames that are not in the store: those of a killed station. Others stay.

        Args:
            is_known: returns True for the id of a frame in the store.
        """
        for path in (self._folder / FOLDER).glob("*/*"):
            if is_frame_file(path.name) and not is_known(path.name.partition(".")[0]):
                with contextlib.suppress(OSError):
                    path.unlink()


def _encode(decided: Decided, pixels: np.ndarray) -> Dict[str, bytes]:
    """Return name and content of the image, and of the overlay if there is a map."""
    suffix, content = _original(decided) or (".png", _compress(".png", pixels, _FAST_PNG))
    files = {f"{decided.frame.id}{suffix}": content}
    inspection = decided.prediction.inspection
    if inspection is not None and inspection.anomaly_map is not None:
        drawn = _compress(".jpg", draw_inspection(pixels, inspection), _OVERLAY)
        files[f"{decided.frame.id}.map.jpg"] = add_mark(drawn, is_sheet=True)
    return files


def _original(decided: Decided) -> Optional[Tuple[str, bytes]]:
    """Return suffix and content of the image as it came; None for an array, or a file that is gone."""
    image = decided.frame.trigger.image
    if isinstance(image, bytes):
        header = read_header(image)
        return None if header is None else (f".{header.format.lower().replace(' ', '')}", image)
    if isinstance(image, Path):
        with contextlib.suppress(AdqError):
            return image.suffix.lower(), read_image_file(image)
    return None


def _compress(suffix: str, pixels: np.ndarray, options: Tuple[int, int]) -> bytes:
    encoded = cv2.imencode(suffix, cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), list(options))[1]
    return bytes(encoded.tobytes())
