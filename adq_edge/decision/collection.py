"""Run an engine on good images and on good images with pasted defects, to learn a product."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from pathlib import Path
from typing import Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np

from adq_edge.core.errors import DataError
from adq_edge.core.images.imaging import load_image, read_product_image, resize_image
from adq_edge.datasets.pasted_defects import paste_defect, paste_defects
from adq_edge.decision.health.measures import ImageMeasures, measure_image
from adq_edge.decision.learning import FEWEST_IMAGES, GoodImages, PastedImages
from adq_edge.decision.maps import Maps
from adq_edge.decision.recognition import thumbnail_embedding
from adq_edge.runtimes.base import Engine, Output
from adq_edge.runtimes.single_image import is_finite, require_finite

FEWEST_PASTED = 120
_MOST_PASTED = 240
_MOST_IN_MEMORY = _MOST_PASTED
_SMALL, _MEDIUM = (0.03, 0.12), (0.08, 0.25)
"""Sizes of single defects; every third image has up to three larger ones."""


@dataclasses.dataclass(frozen=True)
class _Image:
    """A good image; its file is read again if it is not in memory.

    Attributes:
        path: the file.
        size: (height, width) of the engine's input.
        pixels: uint8 `[height, width, 3]`; None if it is not in memory.
    """

    path: Path
    size: Tuple[int, int]
    pixels: Optional[np.ndarray]

    def load(self) -> np.ndarray:
        """Return the pixels, uint8 `[height, width, 3]`."""
        return load_image(self.path, self.size) if self.pixels is None else self.pixels


def count_pasted(images: int) -> int:
    """Return the number of images with pasted defects that `collect` makes of this number of good images."""
    return min(images, _MOST_PASTED) * pasted_for_each(images)


def pasted_for_each(images: int) -> int:
    """Return how many images with pasted defects are made of each good image."""
    return math.ceil(FEWEST_PASTED / min(images, _MOST_PASTED))


def collect(
    engine: Engine, name: str, paths: Sequence[Path], advance: Callable[[], None]
) -> Tuple[GoodImages, Optional[PastedImages], List[str]]:
    """Run an engine on the good images of a product.

    Args:
        engine: the engine.
        name: the product.
        paths: the image files.
        advance: called after each run of the engine.

    Returns:
        Outputs for the good images and for those with pasted defects, and notes for the user. An image
        with pasted defects is left out if its output is not finite; None if all of them are left out.

    Raises:
        DataError: an image cannot be read, or there are too few different ones.
        EngineError: an output for a good image is NaN or infinite.
    """
    images, notes = _read(engine, name, paths, advance)
    kept = [image.path for image in images]
    outputs = [_run(engine, image.load(), image.path) for image in images]
    good = GoodImages(
        tuple(map(str, kept)),
        Maps.join([maps for maps, _, _ in outputs]),
        np.concatenate([one for _, one, _ in outputs]),
        tuple(measures for _, _, measures in outputs),
    )
    pasted: List[Maps] = []
    origins: List[int] = []
    failed = 0
    for index in range(min(len(images), _MOST_PASTED)):
        generator, donor = np.random.default_rng(index), images[index - 1]
        for number in range(pasted_for_each(len(images))):
            image = _paste((index + number) % 3, images[index].load(), donor.load(), generator)
            output = engine.run(image[None])
            if is_finite(output):
                pasted.append(Maps.of(output))
                origins.append(index)
            else:
                failed += 1
            advance()
    if failed:
        notes.append(
            f"{name}: {failed} of {failed + len(pasted)} images with pasted defects have outputs that are "
            "not finite. Such defects cannot be judged; a higher precision may help"
        )
    return good, PastedImages(Maps.join(pasted), np.array(origins)) if pasted else None, notes


def embeddings_of(output: Output, images: np.ndarray) -> np.ndarray:
    """Return the embeddings `[N, D]` of a batch: the engine's, or those of thumbnails."""
    return thumbnail_embedding(images) if output.embeddings is None else output.embeddings


def _read(
    engine: Engine, name: str, paths: Sequence[Path], advance: Callable[[], None]
) -> Tuple[List[_Image], List[str]]:
    """Return the different images, and notes."""
    found: Dict[bytes, _Image] = {}
    sizes, size = set(), engine.sidecar.image_size
    for path in paths:
        image = read_product_image(path)
        sizes.add(image.shape[:2])
        resized = resize_image(image, size)
        pixels = resized if len(found) < _MOST_IN_MEMORY else None
        found.setdefault(hashlib.sha256(resized.tobytes()).digest(), _Image(path, size, pixels))
        advance()
    if len(found) < FEWEST_IMAGES:
        number = f"{len(found)} different good image{'s' * (len(found) != 1)}"
        copies = "" if len(found) == len(paths) else f" among {len(paths)} files"
        what = f"the product {name!r} has {number}{copies}"
        raise DataError(
            what,
            where=paths[0].parent if paths else None,
            fix=f"Give at least {FEWEST_IMAGES}; 99 promise a false-reject rate of 1 %",
        )
    notes = []
    if len(found) < len(paths):
        repeated = len(paths) - len(found)
        notes.append(f"{name}: {repeated} of {len(paths)} good images are copies of others and do not count")
    if len(sizes) > 1:
        notes.append(f"{name}: good images of {len(sizes)} sizes; each is scaled to the input of the engine")
    return list(found.values()), notes


def _run(engine: Engine, image: np.ndarray, path: Path) -> Tuple[Maps, np.ndarray, ImageMeasures]:
    batch = image[None]
    output = engine.run(batch)
    require_finite(output, engine, path)
    return Maps.of(output), embeddings_of(output, batch), measure_image(image)


def _paste(kind: int, image: np.ndarray, donor: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return the image with a small defect (kind 0), a medium one (1), or up to three of any size (2)."""
    if kind == 2:
        return paste_defects(image, donor, generator)
    return paste_defect(image, donor, generator, (_SMALL, _MEDIUM)[kind])
