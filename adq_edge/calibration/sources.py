"""Where calibration images come from: a stream of uint8 `[H, W, 3]` images of the model's size.

A third party's source is a callable `(folder, samples, seed) -> CalibrationSource`, announced in its
package's metadata under the entry-point group `adq_edge.sources`. `folder` is None where the user has no
images. The source chooses what to read there.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Protocol, Sequence, Tuple

import numpy as np

from adq_edge.artifacts import workspace
from adq_edge.core.errors import AdqError, CalibrationError, DataError
from adq_edge.core.files import storage_errors
from adq_edge.core.imaging import find_images, load_image
from adq_edge.core.plugins import load_factory, plugin_names
from adq_edge.datasets.mvtec import read_dataset

GROUP = "adq_edge.sources"

IMAGES = "images"
RANDOM_NORMAL = "random-normal"
SYNTHETIC_DEFECTS = "synthetic-defects"

BUILT_IN = {
    IMAGES: "adq_edge.calibration.sources:image_source",
    RANDOM_NORMAL: "adq_edge.calibration.sources:random_normal_source",
    SYNTHETIC_DEFECTS: "adq_edge.calibration.synthetic_defects:synthetic_defect_source",
}
_READ_CATEGORIES = (IMAGES, SYNTHETIC_DEFECTS)
_FOLDER_OPTION = "name a folder with --calib-data (build) or --data (calibrate, analyze)"

# The study feeds standard-normal tensors where the normalized image goes; undone here, because the
# images of a source enter the graph before the normalization.
_MEAN = np.array([0.485, 0.456, 0.406]) * 255.0
_STD = np.array([0.229, 0.224, 0.225]) * 255.0


class CalibrationSource(Protocol):
    """A stream of images that can be drawn again and again, the same each time."""

    @property
    def name(self) -> str:
        """What ranges files call it."""

    def __len__(self) -> int:
        """Return the number of images."""

    def images(self, size: Tuple[int, int]) -> Iterator[np.ndarray]:
        """Yield each image, uint8 `[H, W, 3]` RGB of `size` (height, width)."""

    def fingerprint(self) -> str:
        """Return a text that changes when the images do."""


@dataclasses.dataclass(frozen=True)
class ImageSource:
    """Images from files, in a fixed pseudo-random order so that a part of them covers all categories.

    Attributes:
        paths: the files that are read.
    """

    paths: Tuple[Path, ...]
    name: str = IMAGES

    def __len__(self) -> int:
        return len(self.paths)

    def images(self, size: Tuple[int, int]) -> Iterator[np.ndarray]:
        """Yield each image, resized to `size` (height, width)."""
        for path in self.paths:
            yield load_image(path, size)

    def fingerprint(self) -> str:
        """Return a hash of the files' names, sizes and times: the same ranges follow from the same files."""
        digest = hashlib.sha256()
        for path in self.paths:
            with storage_errors(path):
                status = path.stat()
            digest.update(f"{path.resolve()}|{status.st_size}|{status.st_mtime_ns}\n".encode())
        return digest.hexdigest()


@dataclasses.dataclass(frozen=True)
class RandomNormalSource:
    """The study's data-free source: standard-normal values where the normalized image goes.

    As an image holds only 0..255, values beyond about two standard deviations are clipped.
    """

    count: int
    seed: int = 0
    name: str = RANDOM_NORMAL

    def __len__(self) -> int:
        return self.count

    def images(self, size: Tuple[int, int]) -> Iterator[np.ndarray]:
        """Yield random images of `size` (height, width)."""
        generator = np.random.default_rng(self.seed)
        for _ in range(self.count):
            values = generator.standard_normal((*size, 3)) * _STD + _MEAN
            yield np.clip(np.rint(values), 0, 255).astype(np.uint8)

    def fingerprint(self) -> str:
        """Return what determines the images."""
        return f"{RANDOM_NORMAL}-{self.seed}"


@dataclasses.dataclass(frozen=True)
class MixedSource:
    """Images of several sources in turn, so that any part of the stream has some of each.

    Attributes:
        parts: the sources, in the order in which they take turns.
    """

    parts: Tuple[CalibrationSource, ...]

    @property
    def name(self) -> str:
        """The parts' names with plus signs between them, which a file name may hold."""
        return "+".join(part.name for part in self.parts)

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts)

    def images(self, size: Tuple[int, int]) -> Iterator[np.ndarray]:
        """Yield an image of each part in turn, of `size` (height, width); a part that ends drops out."""
        for turn in itertools.zip_longest(*(part.images(size) for part in self.parts)):
            yield from (image for image in turn if image is not None)

    def fingerprint(self) -> str:
        """Return a hash of all that the parts' images follow from."""
        digest = hashlib.sha256()
        for part in self.parts:
            digest.update(f"{part.name}|{len(part)}|{part.fingerprint()}\n".encode())
        return digest.hexdigest()


def source_names() -> List[str]:
    """Return the names of all sources, ours and installed ones."""
    return plugin_names(GROUP, BUILT_IN)


def reads_categories(spec: str) -> bool:
    """Return True if a source, or one of several, reads a dataset's categories."""
    return any(name.strip() in _READ_CATEGORIES for name in spec.split(","))


def make_source(
    spec: str, folder: Optional[Path], samples: int, seed: int = 0, categories: Sequence[str] = ()
) -> CalibrationSource:
    """Make a source from its name, or a mixture from several names with commas between them.

    Args:
        spec: such as `images` or `images,synthetic-defects`.
        folder: images for the sources that need them; None if there are none.
        samples: the largest number of images in total; each source of a mixture gets an equal share.
        seed: of all random choices.
        categories: which to read of a dataset; all by default.

    Raises:
        CalibrationError: no such source, one named twice, one without the images it needs, or fewer
            samples than sources.
    """
    names = [name.strip() for name in spec.split(",")]
    factories = [load_factory("source", name, GROUP, BUILT_IN) for name in names]
    if len(set(names)) < len(names):
        raise CalibrationError("a source is named twice", where=spec, fix="Name each source once")
    if samples < len(names):
        raise CalibrationError(
            f"calibration needs at least one image of each source, and --samples is {samples}",
            fix=f"Give --samples {len(names)} or more",
        )
    share, remainder = divmod(samples, len(names))
    parts: List[CalibrationSource] = []
    for number, (name, factory) in enumerate(zip(names, factories)):
        own: Dict[str, Any] = {"categories": categories} if name in _READ_CATEGORIES else {}
        try:
            parts.append(factory(folder, share + (number < remainder), seed, **own))
        except AdqError:
            raise
        except Exception as error:  # a third party's can fail in any way
            raise CalibrationError(f"source {name!r} cannot be made ({error})") from error
    return parts[0] if len(parts) == 1 else MixedSource(tuple(parts))


def random_normal_source(folder: Optional[Path], samples: int, seed: int = 0) -> RandomNormalSource:
    """Return `samples` random images; the folder is not looked at."""
    del folder
    return RandomNormalSource(samples, seed)


def image_source(
    folder: Optional[Path], samples: int, seed: int = 0, categories: Sequence[str] = ()
) -> ImageSource:
    """Return up to `samples` images of a folder.

    Args:
        folder: a dataset in MVTec AD layout (its normal training images are taken), or any folder of images;
            None where none was named and none found.
        samples: the largest number to take.
        seed: of the order.
        categories: which to read of a dataset; all by default.

    Raises:
        CalibrationError: there is no folder, or it holds no image.
    """
    remedy = f"Put images there, or {_FOLDER_OPTION}"
    if folder is None:
        raise CalibrationError("no calibration images", where=workspace.CALIBRATION_DATA, fix=remedy)
    paths = _image_paths(folder, categories)
    if not paths:
        raise CalibrationError("no calibration images here", where=folder, fix=remedy)
    return ImageSource(tuple(paths[i] for i in numbers_in_order(len(paths), seed)[:samples]))


def numbers_in_order(count: int, seed: int = 0) -> List[int]:
    """Return the order that a folder is read in; files that are named by it in turn are read in turn."""
    return [int(number) for number in np.random.default_rng(seed).permutation(count)]


def _image_paths(folder: Path, categories: Sequence[str] = ()) -> List[Path]:
    if not folder.is_dir():
        raise CalibrationError("no such folder", where=folder, fix=_FOLDER_OPTION.capitalize())
    try:
        return read_dataset(folder, categories).train_images
    except DataError:
        with storage_errors(folder):
            folders = [folder, *(path for path in sorted(folder.rglob("*")) if path.is_dir())]
        return [image for part in folders for image in find_images(part)]


def has_images(folder: Optional[Path]) -> bool:
    """Return True if a folder exists and holds images that `image_source` would take."""
    return folder is not None and folder.is_dir() and bool(_image_paths(folder))
