"""The inputs of `predict`: image files, folders of images and image arrays."""

from __future__ import annotations

import collections.abc
import dataclasses
import os
import unicodedata
from pathlib import Path, PurePath
from typing import Any, Dict, Iterable, Iterator, List, Sequence, Tuple, Union

import numpy as np

from adq_edge.artifacts.products import listed
from adq_edge.core.errors import DataError
from adq_edge.core.files import storage_errors
from adq_edge.core.images.arrays import RGB, as_rgb, check_color, not_an_image
from adq_edge.core.images.folders import find_images, find_unread_images, is_folder
from adq_edge.core.images.imaging import read_product_image
from adq_edge.datasets.layouts.mask_names import images_to_judge, is_mask_folder

_SINGLE = (str, os.PathLike, np.ndarray)
_HERE = PurePath()


@dataclasses.dataclass(frozen=True)
class ImageFile:
    """An image file to judge.

    Attributes:
        path: the file.
        subfolder: its folder, relative to the folder that the user named; `.` for a file that the user named.
    """

    path: Path
    subfolder: PurePath = _HERE

    @property
    def name(self) -> str:
        """The path of the file."""
        return str(self.path)

    @property
    def stem(self) -> str:
        """The name of the file without its suffix."""
        return self.path.stem

    def read(self) -> np.ndarray:
        """Return the image as uint8 `[H, W, 3]` RGB.

        Raises:
            DataError: the file is no image, or a heat map, sheet or plot that adq-edge wrote.
            StorageError: the file cannot be read.
        """
        return read_product_image(self.path)


@dataclasses.dataclass(frozen=True)
class ImageArray:
    """An image array to judge.

    Attributes:
        pixels: uint8 `[H, W, 3]` RGB.
        number: position of the array among the inputs, from 0.
        subfolder: as in `ImageFile`.
    """

    pixels: np.ndarray
    number: int
    subfolder: PurePath = _HERE

    @property
    def name(self) -> str:
        """The name of the array in results: `array 0` for the first."""
        return f"array {self.number}"

    @property
    def stem(self) -> str:
        """The name of the array in file names: `array-000` for the first."""
        return f"array-{self.number:03}"

    def read(self) -> np.ndarray:
        """Return the image as uint8 `[H, W, 3]` RGB."""
        return self.pixels


Image = Union[ImageFile, ImageArray]
ImageInput = Union[str, Path, np.ndarray, ImageFile]
"""An image file, a folder of images, or an image array."""


def distinct_files(paths: Sequence[Path]) -> Tuple[List[ImageFile], int]:
    """Return the image files of paths, each once, and the number of those that were named again.

    Args:
        paths: image files and folders of images. Two names of a file that is linked are two files.

    Raises:
        DataError: no such file or folder, or a folder without images.
        StorageError: a path is not possible, or a folder cannot be read.
    """
    for path in paths:
        with storage_errors(path):
            if not path.exists():
                raise DataError(
                    "no such file or folder", where=path, fix="Name an image or a folder of images"
                )
    found: Dict[str, ImageFile] = {}
    repeated = 0
    for image in _expand(paths, RGB):
        assert isinstance(image, ImageFile)
        name = os.path.abspath(str(image.path))  # noqa: PTH100  # links keep their names
        repeated += name in found
        found.setdefault(name, image)
    return list(found.values()), repeated


def open_inputs(images: Union[ImageInput, Iterable[ImageInput]], color: str) -> Iterable[Image]:
    """Return the images to judge; no file is opened yet.

    Args:
        images: an image file, a folder, an image array, or any number of them. A folder stands for the images
            in it and in all folders below, without hidden files, the masks of a dataset and heat maps, sheets
            and plots of adq-edge. Images in formats that are not read get an error. A list is checked at
            once, any other iterable item by item.
        color: order of the channels of arrays: `rgb` or `bgr`.

    Raises:
        DataError: no image, a folder without images, an array that is no image, or no such order of channels.
        StorageError: a folder cannot be read.
    """
    check_color(color)
    if isinstance(images, _SINGLE):
        return list(_expand([images], color))
    if not isinstance(images, collections.abc.Iterable):
        raise not_an_image(images, "images")
    if not isinstance(images, collections.abc.Sequence):
        return _expand(images, color)
    if not images:
        raise DataError("no image given", fix="Name an image or a folder of images")
    return list(_expand(images, color))


def product_of_folder(image: Image, names: Sequence[str]) -> str:
    """Return the product that a folder above an image names: the nearest folder with a name of `names`.

    Unicode writes some letters, such as the German umlauts, in two ways. Both name the product.

    Raises:
        DataError: no folder above it has one of these names, or the image is an array.
    """
    if isinstance(image, ImageFile):
        known = {unicodedata.normalize("NFC", name): name for name in names}
        for folder in Path(os.path.abspath(str(image.path))).parents:  # noqa: PTH100  # links keep their names
            found = known.get(unicodedata.normalize("NFC", folder.name))
            if found is not None:
                return folder.name if folder.name in names else found
    raise DataError(
        "no folder above this image has the name of a product",
        where=image.name,
        fix=f"Name the product with --product, or omit --product-from-folder. Products: {listed(names)}",
    )


def _expand(images: Iterable[Any], color: str) -> Iterator[Image]:
    for number, image in enumerate(images):
        if isinstance(image, np.ndarray):
            yield ImageArray(as_rgb(image, color, f"array {number}"), number)
        elif isinstance(image, ImageFile):
            yield image
        elif not isinstance(image, (str, os.PathLike)):
            raise not_an_image(image, f"image {number}")
        elif not os.fspath(image):  # `Path` would take it for the working folder
            raise DataError(
                "an empty path", where=f"image {number}", fix="Name an image or a folder of images"
            )
        elif is_folder(Path(image)):
            yield from _images_below(Path(image))
        else:
            yield ImageFile(Path(image))


def _images_below(folder: Path) -> List[Image]:
    found = sorted([*find_images(folder), *find_unread_images(folder)])
    paths = _without_dataset_masks(found, folder)
    if not paths:
        what = "no images in this folder, not counting heat maps and sheets of adq-edge"
        raise DataError(what, where=folder, fix="Name an image or a folder of images")
    return [ImageFile(path, path.parent.relative_to(folder)) for path in paths]


def _without_dataset_masks(paths: Sequence[Path], root: Path) -> List[Path]:
    """Return the images without masks, in folders of masks below `root` or beside their images."""
    folders = {folder for path in paths for folder in path.parents if root in folder.parents}
    masks = set(filter(is_mask_folder, folders))
    return images_to_judge(path for path in paths if not masks.intersection(path.parents))
