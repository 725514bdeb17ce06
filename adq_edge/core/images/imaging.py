"""Reads, resizes and writes images: the only conversion of files into tensors and of maps into images.

Training, calibration, evaluation and prediction all use this module, so their preprocessing is the same. An
image is uint8 `[H, W, 3]` in RGB order; the steps after the resize (cast, transpose, normalization) are part
of the model's graph. Alpha is ignored. An image is turned as its EXIF orientation states. More than 8 bits
are scaled as `core.images.bit_depth` describes.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Optional, Tuple, Union

import cv2
import numpy as np

from adq_edge.core.errors import DataError
from adq_edge.core.files import storage_errors, write_bytes
from adq_edge.core.images.bit_depth import to_eight_bits
from adq_edge.core.images.encoded import check_image, decode, read_image_file
from adq_edge.core.images.folders import find_images
from adq_edge.core.images.mask_levels import defective_pixels
from adq_edge.core.images.output_mark import WRITTEN_IMAGE, add_mark, describe_result_image

_LARGEST_DEFECT = 0.9  # part of an image
_LARGE_MASK_FIX = "Draw the defect in white on black, or remove the mask"
_QUALITIES = (85, 70, 50, 30)
"""Qualities of a JPEG file whose size is limited, 0 to 100."""
_MASK_FIX = "Draw the defect, or remove the mask: its image is then left out of the pixel metrics"


def read_image(path: Union[str, Path]) -> np.ndarray:
    """Read an image file as uint8 `[H, W, 3]` RGB; a gray image has three equal channels.

    Raises:
        StorageError: the file cannot be read.
        DataError: the file is not one whole image of a supported kind.
    """
    path = Path(path)
    return decode_image(read_image_file(path), path)


def read_product_image(path: Union[str, Path]) -> np.ndarray:
    """Read an image to judge or to learn from, as `read_image` does.

    Raises:
        StorageError: the file cannot be read.
        DataError: as `read_image`, or the image shows results: a heat map, sheet or plot of adq-edge.
    """
    path = Path(path)
    return decode_image(read_product_file(path), path)


def read_product_file(path: Path) -> bytes:
    """Read the content of the file of an image to judge or to learn from.

    Errors are those of `read_product_image`.
    """
    content = read_image_file(path)
    title = describe_result_image(content)
    if title is not None:
        raise DataError(f"{title}, not an image of a product", where=path, fix="Remove it from the images")
    return content


def decode_image(content: bytes, where: Optional[Path] = None) -> np.ndarray:
    """Decode an encoded image as uint8 `[H, W, 3]` RGB.

    A large JPEG is decoded at full size. Decoding at half size would save 44 % of the time for decoding and
    resizing (1024x1024 to 256x256, one core). But pixels would differ by 0.2 levels on average and 5 at most,
    and an STFPM's scores of real photographs by 2.1 % on average and 21 % at most. That is nearly as much as
    with INT8 (3.0 % and 21 %).

    PNG files take most of their time to inflate, with any library that has wheels for all platforms: of a
    1024x1024 image on one core, Pillow 13 with zlib-ng takes 1.12 times as long as OpenCV, and a first
    inflation with isal, whose result OpenCV decodes, 0.96 times.

    Raises:
        DataError: the content is not one whole image of a supported kind.
    """
    header = check_image(content, where)
    if header.kind == "signed":
        raise DataError(
            "signed samples have no known scale", where=where, fix="Save it with 8 or 16 bits, unsigned"
        )
    if header.bits > 8 or header.max_value is not None:
        # Not as RGB: OpenCV 5 exchanges bytes instead of channels in 16-bit TIFF files.
        pixels = decode(content, header, cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR, where)
        to_rgb = cv2.COLOR_GRAY2RGB if pixels.ndim == 2 else cv2.COLOR_BGR2RGB
        return np.asarray(cv2.cvtColor(to_eight_bits(pixels, header, where), to_rgb))
    if header.multiplies_alpha and decode(content, header, cv2.IMREAD_UNCHANGED, where)[..., 3].min() < 255:
        what = "TIFF file with a transparent part, whose colors OpenCV darkens"
        raise DataError(what, where=where, fix="Save it without alpha")
    as_rgb = getattr(cv2, "IMREAD_COLOR_RGB", None)  # since OpenCV 4.11: the same pixels, one copy fewer
    if as_rgb is not None:
        return decode(content, header, as_rgb, where)
    return np.asarray(cv2.cvtColor(decode(content, header, cv2.IMREAD_COLOR, where), cv2.COLOR_BGR2RGB))


def read_mask(path: Union[str, Path], image_size: Optional[Tuple[int, int]] = None) -> np.ndarray:
    """Read a ground-truth mask as bool `[H, W]`: True where the pixel is defective.

    Args:
        path: the mask file, or a folder of masks of one image, which are united. Which pixels are defective
            is defined in `core.images.mask_levels`.
        image_size: (height, width) that the mask must have, if known.

    Raises:
        StorageError: the file cannot be read.
        DataError: the file is not an image, its size differs from `image_size`, or no pixel or nearly every
            pixel is defective.
    """
    path = Path(path)
    with storage_errors(path):
        files = find_images(path) if path.is_dir() else [path]
    masks = [_read_mask_file(file, image_size) for file in files]
    if len({mask.shape for mask in masks}) > 1:
        raise DataError("its masks differ in size", where=path, fix="Make each the size of the image")
    mask = np.logical_or.reduce(masks) if masks else np.zeros((1, 1), bool)
    if not mask.any():
        raise DataError("mask marks no pixel as defective", where=path, fix=_MASK_FIX)
    if mask.mean() > _LARGEST_DEFECT:
        what = f"mask marks {100 * mask.mean():.0f} % of the image as defective, as an inverted mask does"
        raise DataError(what, where=path, fix=_LARGE_MASK_FIX)
    return np.asarray(mask)


def marks_defect(path: Path) -> bool:
    """Return True if a mask marks a pixel as defective. The answer is kept until the file changes.

    Raises:
        StorageError: the file cannot be read.
        DataError: the file is not an image.
    """
    with storage_errors(path):
        status = path.stat()
    return _marks_defect(path, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=2**16)
def _marks_defect(path: Path, changed: int, size: int) -> bool:
    return bool(_read_mask_file(path, None).any())


def _read_mask_file(path: Path, image_size: Optional[Tuple[int, int]]) -> np.ndarray:
    content = read_image_file(path)
    header = check_image(content, path)
    flags = cv2.IMREAD_UNCHANGED if header.has_alpha else cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR
    pixels = decode(content, header, flags, path)
    height, width = pixels.shape[:2]
    if image_size is not None and (height, width) != tuple(image_size):
        what = f"mask is {width}x{height} pixels, its image is {image_size[1]}x{image_size[0]}"
        turned = (width, height) == tuple(image_size)
        fix = "Turn the mask as its image's EXIF orientation states" if turned else "Make it the image's size"
        raise DataError(what, where=path, fix=fix)
    if not (np.isfinite(pixels).all() and pixels.min() >= 0):
        raise DataError("mask has negative or non-finite values", where=path, fix="Save it with 8 bits")
    return defective_pixels(pixels, header.is_lossy)


def resize_image(image: np.ndarray, size: Tuple[int, int]) -> np.ndarray:
    """Resize an image to `size` (height, width): by area when it shrinks (no aliasing), else bilinearly."""
    height, width = size
    if image.shape[:2] == (height, width):
        return image
    shrinks = height <= image.shape[0] and width <= image.shape[1]
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (width, height), interpolation=interpolation))


def load_image(path: Union[str, Path], size: Tuple[int, int]) -> np.ndarray:
    """Read an image file and resize it to `size` (height, width): the input of every engine.

    Errors are those of `read_product_image`.
    """
    return resize_image(read_product_image(path), size)


def resize_mask(mask: np.ndarray, size: Tuple[int, int]) -> np.ndarray:
    """Resize a bool mask `[H, W]` to `size` (height, width) by nearest neighbor."""
    resized = cv2.resize(mask.astype(np.uint8), (size[1], size[0]), interpolation=cv2.INTER_NEAREST)
    return np.asarray(resized > 0)


def resize_map(anomaly_map: np.ndarray, size: Tuple[int, int]) -> np.ndarray:
    """Resize a float32 anomaly map `[h, w]` to `size` (height, width) bilinearly."""
    if anomaly_map.shape == tuple(size):
        return anomaly_map
    return np.asarray(cv2.resize(anomaly_map, (size[1], size[0]), interpolation=cv2.INTER_LINEAR))


def heat_map(anomaly_map: np.ndarray, low: float, high: float) -> np.ndarray:
    """Color an anomaly map `[h, w]` as RGB `[h, w, 3]`: blue at `low` or less, red at `high` or more."""
    span = max(high - low, np.finfo(np.float32).tiny)
    level = np.clip((anomaly_map - low) / span * 255.0, 0.0, 255.0).astype(np.uint8)
    return np.asarray(cv2.cvtColor(cv2.applyColorMap(level, cv2.COLORMAP_JET), cv2.COLOR_BGR2RGB))


def overlay(
    image: np.ndarray, anomaly_map: np.ndarray, low: float, high: float, opacity: float = 0.45
) -> np.ndarray:
    """Lay a colored anomaly map over its image.

    Args:
        image: uint8 `[H, W, 3]` RGB.
        anomaly_map: float32 `[h, w]`, resized to the image.
        low: map value shown blue.
        high: map value shown red.
        opacity: weight of the heat map, 0 to 1.
    """
    colors = heat_map(resize_map(anomaly_map, (image.shape[0], image.shape[1])), low, high)
    return np.asarray(cv2.addWeighted(image, 1.0 - opacity, colors, opacity, 0.0))


def write_image(path: Union[str, Path], image: np.ndarray) -> None:
    """Write uint8 `[H, W, 3]` RGB or `[H, W]` gray in the format of the file suffix, atomically.

    Raises:
        StorageError: the folder cannot be written to or is full, or the file is an image of another tool.
        DataError: OpenCV cannot write this format.
    """
    write_bytes(Path(path), add_mark(_encode(Path(path), image)), WRITTEN_IMAGE)


def write_sheet(path: Union[str, Path], image: np.ndarray) -> None:
    """Write a sheet of images or a plot as `write_image` does, with a mark so that it is never judged."""
    write_bytes(Path(path), add_mark(_encode(Path(path), image), is_sheet=True), WRITTEN_IMAGE)


def write_small_sheet(path: Path, image: np.ndarray, largest: int) -> None:
    """Write a sheet as JPEG of about `largest` bytes or fewer, with the mark of a sheet."""
    write_bytes(path, add_mark(encode_jpeg(image, largest), is_sheet=True), WRITTEN_IMAGE)


def encode_jpeg(image: np.ndarray, largest: int) -> bytes:
    """Return uint8 `[H, W, 3]` RGB as JPEG of at most `largest` bytes, in the best of a few qualities.

    The lowest quality is used if none is small enough.
    """
    bgr, encoded = cv2.cvtColor(image, cv2.COLOR_RGB2BGR), b""
    for quality in _QUALITIES:
        encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
        if len(encoded) <= largest:
            break
    return encoded


def _encode(path: Path, image: np.ndarray) -> bytes:
    bgr = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    try:
        encoded, buffer = cv2.imencode(path.suffix, bgr)
    except cv2.error:
        encoded = False
    if not encoded:
        raise DataError("OpenCV cannot write this image format", where=path, fix="Use .png or .jpg")
    return buffer.tobytes()
