"""Sources of calibration images: built-in ones, and those of installed packages.

A package adds a source through the entry-point group `adq_edge.sources`: a function
`(folder, samples, seed) -> CalibrationSource`. `folder` is None if the user has no images.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Protocol, Sequence, Tuple

import numpy as np

from adq_edge.artifacts import workspace
from adq_edge.core.errors import CalibrationError
from adq_edge.core.files import storage_errors
from adq_edge.core.images.folders import find_images, is_file, is_folder
from adq_edge.core.images.imaging import load_image
from adq_edge.core.plugins import load_factory, plugin_errors, plugin_names
from adq_edge.datasets.dataset import is_dataset, read_dataset
from adq_edge.datasets.layouts.mask_names import is_below_dataset_masks, without_masks
from adq_edge.datasets.unknown_layout import describe

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
_FOLDER_OPTION = "name a folder with --calib-data"

# ImageNet's normalization; random-normal images apply its inverse.
_MEAN = np.array([0.485, 0.456, 0.406]) * 255.0
_STD = np.array([0.229, 0.224, 0.225]) * 255.0

_SPECTRUM_POWER = 1.0
"""Amplitudes of random images fall with this power of the frequency, as those of photographs do."""
_SHARED_NOISE = 0.9
"""Share of each color channel's noise that is the same in all three; the squares of both shares sum to 1."""


class CalibrationSource(Protocol):
    """Calibration images; each pass over them yields the same images."""

    @property
    def name(self) -> str:
        """The source's name in ranges files."""

    def __len__(self) -> int:
        """Return the number of images."""

    def images(self, size: Tuple[int, int]) -> Iterator[np.ndarray]:
        """Yield each image, uint8 `[H, W, 3]` RGB of `size` (height, width)."""

    def fingerprint(self) -> str:
        """Return a string that changes with the images."""


@dataclasses.dataclass(frozen=True)
class ImageSource:
    """Images from files.

    Attributes:
        paths: the files.
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
        """Return a hash of the paths, sizes and modification times of the files."""
        digest = hashlib.sha256()
        for path in self.paths:
            with storage_errors(path):
                status = path.stat()
            digest.update(f"{path.resolve()}|{status.st_size}|{status.st_mtime_ns}\n".encode())
        return digest.hexdigest()


@dataclasses.dataclass(frozen=True)
class RandomNormalSource:
    """Random images that are standard normal after the normalization.

    Neighboring pixels are alike, as in photographs. White noise hardly excites the deeper layers, so its
    ranges clip what photographs cause there.
    Pixels are 0 to 255, so values beyond about two standard deviations are clipped.
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
            values = _colored_noise(generator, size) * _STD + _MEAN
            yield np.clip(np.rint(values), 0, 255).astype(np.uint8)

    def fingerprint(self) -> str:
        """Return a string that changes with the seed and the spectrum."""
        return f"{RANDOM_NORMAL}-{self.seed}-{_SPECTRUM_POWER}-{_SHARED_NOISE}"


def _colored_noise(generator: np.random.Generator, size: Tuple[int, int]) -> np.ndarray:
    """Return normal noise of standard deviation 1 whose channels are alike, float64 `[H, W, 3]`."""
    shared, *own = (_noise(generator, size) for _ in range(4))
    rest = np.sqrt(1.0 - _SHARED_NOISE**2)
    return np.stack([_SHARED_NOISE * shared + rest * channel for channel in own], axis=-1)


def _noise(generator: np.random.Generator, size: Tuple[int, int]) -> np.ndarray:
    """Return normal noise of standard deviation 1 whose amplitudes fall with a power of the frequency."""
    frequencies = np.hypot(np.fft.fftfreq(size[0])[:, None], np.fft.rfftfreq(size[1]))
    frequencies[0, 0] = 1.0 / max(size)  # the mean of an image varies as its lowest frequency does
    spectrum = np.fft.rfft2(generator.standard_normal(size)) * frequencies**-_SPECTRUM_POWER
    noise = np.fft.irfft2(spectrum, size)
    return np.asarray(noise / noise.std())


@dataclasses.dataclass(frozen=True)
class MixedSource:
    """Images of several sources, alternating.

    Attributes:
        parts: the sources, in the order of their images.
    """

    parts: Tuple[CalibrationSource, ...]

    @property
    def name(self) -> str:
        """The parts' names, joined by plus signs."""
        return "+".join(part.name for part in self.parts)

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts)

    def images(self, size: Tuple[int, int]) -> Iterator[np.ndarray]:
        """Yield an image of each part in turn, of `size` (height, width), until all parts end."""
        for turn in itertools.zip_longest(*(part.images(size) for part in self.parts)):
            yield from (image for image in turn if image is not None)

    def fingerprint(self) -> str:
        """Return a hash of the parts' fingerprints."""
        digest = hashlib.sha256()
        for part in self.parts:
            digest.update(f"{part.name}|{len(part)}|{part.fingerprint()}\n".encode())
        return digest.hexdigest()


def source_names() -> List[str]:
    """Return the names of all sources."""
    return plugin_names(GROUP, BUILT_IN)


def reads_categories(spec: str) -> bool:
    """Return True if a source, or one of several, reads the categories of a dataset."""
    return any(name.strip() in _READ_CATEGORIES for name in spec.split(","))


def make_source(
    spec: str, folder: Optional[Path], samples: int, seed: int = 0, categories: Sequence[str] = ()
) -> CalibrationSource:
    """Make a source from its name, or a mixture from several names.

    Args:
        spec: names separated by commas, such as `images,synthetic-defects`.
        folder: folder of images, or None.
        samples: the largest number of images in total; the sources of a mixture share this number equally.
        seed: seed of random choices.
        categories: categories of a dataset to read; all by default.

    Raises:
        CalibrationError: no such source, a source is named twice or lacks images, or there are fewer samples
            than sources.
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
        options: Dict[str, Any] = {"categories": categories} if name in _READ_CATEGORIES else {}
        with plugin_errors(f"source {name!r} cannot be made"):
            parts.append(factory(folder, share + (number < remainder), seed, **options))
    return parts[0] if len(parts) == 1 else MixedSource(tuple(parts))


def random_normal_source(folder: Optional[Path], samples: int, seed: int = 0) -> RandomNormalSource:
    """Return `samples` random images; the folder is not read."""
    del folder
    return RandomNormalSource(samples, seed)


def image_source(
    folder: Optional[Path], samples: int, seed: int = 0, categories: Sequence[str] = ()
) -> ImageSource:
    """Return up to `samples` images of a folder, in a random order; categories of a dataset take turns.

    So a small category has as many of the first images as a large one, until it has no more.

    Args:
        folder: a dataset (only normal training images are used) or any folder of images;
            None if there is no folder.
        samples: the largest number of images.
        seed: seed of the order.
        categories: categories of a dataset to read; all by default.

    Raises:
        CalibrationError: there is no folder, or it has no image.
    """
    remedy = f"Put images there, or {_FOLDER_OPTION}"
    if folder is None:
        raise CalibrationError("no calibration images", where=workspace.CALIBRATION_DATA, fix=remedy)
    groups = _image_groups(folder, categories)
    shuffled = [[paths[i] for i in image_order(len(paths), seed)] for paths in groups]
    paths = [path for turn in itertools.zip_longest(*shuffled) for path in turn if path is not None]
    if not paths:
        what = f"no calibration images here, {describe(folder)}"
        raise CalibrationError(what, where=folder, fix=remedy)
    return ImageSource(tuple(paths[:samples]))


def image_order(count: int, seed: int = 0) -> List[int]:
    """Return the order in which a folder of `count` images is read."""
    return [int(number) for number in np.random.default_rng(seed).permutation(count)]


def _image_groups(folder: Path, categories: Sequence[str] = ()) -> List[Sequence[Path]]:
    """Return the normal training images of each category of a dataset, or all images of any other folder."""
    if not is_folder(folder):
        what = "a file, not a folder of images" if is_file(folder) else "no such folder"
        raise CalibrationError(what, where=folder, fix=_FOLDER_OPTION.capitalize())
    if is_below_dataset_masks(folder):
        what = "the masks of a dataset, not its images"
        raise CalibrationError(what, where=folder, fix=_FOLDER_OPTION.capitalize())
    if is_dataset(folder):
        return [category.train for category in read_dataset(folder, categories).categories]
    return [without_masks(find_images(folder))]


def has_images(folder: Optional[Path]) -> bool:
    """Return True if a folder exists and has images, or what may be a dataset, for `image_source`."""
    return folder is not None and is_folder(folder) and (is_dataset(folder) or bool(find_images(folder)))
