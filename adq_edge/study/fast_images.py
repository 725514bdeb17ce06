"""The labeled images that a search measures its points on: the user's, or good images with pasted defects."""

from __future__ import annotations

import contextlib
import dataclasses
import zlib
from pathlib import Path
from typing import Collection, ContextManager, List, Sequence, Tuple

import numpy as np

from adq_edge.core.console import console, progress_bar
from adq_edge.core.errors import DataError
from adq_edge.core.images.imaging import read_product_image, write_image
from adq_edge.core.text import number_of
from adq_edge.datasets.dataset import Dataset, Sample, read_dataset
from adq_edge.datasets.layouts.registry import use_layout
from adq_edge.datasets.pasted_defects import paste_defect
from adq_edge.training.data import ImageSets
from adq_edge.training.settings import Selection

HELD_OUT = 0.25
"""Share of the good images that is not trained on, if there are no labeled test images."""
FEWEST_HELD_OUT = 5
_SIZES = ((0.04, 0.1), (0.1, 0.25), (0.25, 0.4))
"""Sides of the pasted defects, relative to the image's shorter side; each image gets one defect of each."""


@dataclasses.dataclass(frozen=True)
class LabeledImages:
    """Labeled images of some categories.

    Attributes:
        root: the dataset folder that they are in.
        samples: the images.
        pasted: True if the defects are pasted, so that an AUROC is an estimate.
        validation: share of the good training images that must not be trained on.
    """

    root: Path
    samples: Tuple[Sample, ...]
    pasted: bool
    validation: float

    @property
    def categories(self) -> List[str]:
        """The names of the categories."""
        return list(dict.fromkeys(sample.category for sample in self.samples))

    def own_layout(self) -> ContextManager[None]:
        """Return a block in which `root` is read in its own layout, whatever layout the user named."""
        return use_layout(None) if self.pasted else contextlib.nullcontext()


def find_labeled_images(dataset: Dataset, folder: Path, seed: int) -> LabeledImages:
    """Return a dataset's labeled test images; without them, paste defects on held-out good images.

    Args:
        dataset: the images.
        folder: folder for images with pasted defects; they get a subfolder of their own.
        seed: random seed of the held-out images and of the defects.

    Raises:
        DataError: no labeled images, and too few good ones to hold some out; or an image cannot be read.
        StorageError: an image cannot be written.
    """
    labeled = [one for one in dataset.categories if one.why_no_image_metrics is None]
    if labeled:
        samples = tuple(sample for one in labeled for sample in one.test)
        return LabeledImages(dataset.root, samples, False, 0.0)
    held_out = ImageSets.of(dataset, HELD_OUT, seed, Selection.LOSS).validation
    if len(held_out) < FEWEST_HELD_OUT:
        raise DataError(
            "has no labeled test images, and too few good ones to hold some out",
            where=dataset.root,
            fix=f"Put images with defects beside the good ones, or give {int(FEWEST_HELD_OUT / HELD_OUT)} "
            "good images or more",
        )
    owner = {path: one.name for one in dataset.categories for path in one.train}
    _print_not_scored(dataset, {owner[path] for path in held_out})
    root = folder / _name([owner[path] for path in held_out])
    with progress_bar("Pasting defects", len(held_out), "images") as advance:
        for number, path in enumerate(held_out):
            _paste(root / owner[path], number, held_out)
            advance()
    with use_layout(None):  # they are written in another layout than the one that the user named
        pasted = read_dataset(root)
    return LabeledImages(
        root, tuple(sample for one in pasted.categories for sample in one.test), True, HELD_OUT
    )


def _print_not_scored(dataset: Dataset, scored: Collection[str]) -> None:
    """Print the categories that have too few good images to hold one out."""
    for one in dataset.categories:
        if one.name not in scored:
            images = number_of(len(one.train), "good image")
            console.print(
                f"note: {one.name}: not in the AUROC: {images}, too few to hold some out",
                soft_wrap=True,
                markup=False,
            )


def _name(owners: Sequence[str]) -> str:
    """Return the name of the folder for the images of these categories: other images get another folder."""
    return f"{zlib.crc32(chr(0).join(owners).encode('utf-8')):08x}"


def _paste(folder: Path, number: int, paths: Sequence[Path]) -> None:
    """Write a good image and its copies with a defect each to the folder of a category."""
    image, donor = read_product_image(paths[number]), read_product_image(paths[number - 1])
    name = f"{number:03}"
    for good in ("train/good", "test/good"):  # nothing trains on them, but a category has training images
        write_image(folder / good / f"{name}.png", image)
    for defect, sizes in enumerate(_SIZES):
        defective = paste_defect(image, donor, np.random.default_rng([number, defect]), sizes)
        write_image(folder / "test" / "pasted" / f"{name}-{defect}.png", defective)
