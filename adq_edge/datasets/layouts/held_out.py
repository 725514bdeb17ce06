"""Splits the normal images of a layout without a split into training and test."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Sequence, Set

from adq_edge.datasets.layouts.files import CategoryFiles, LabeledImage

_HELD_OUT = 5  # one of so many normal images


def hold_out(images: Sequence[Path], folder: Path) -> Set[Path]:
    """Choose a fifth of the normal images for the test, by a hash of their paths below `folder`.

    The choice hardly changes when images are added.
    """

    def rank(path: Path) -> int:
        return zlib.crc32(path.relative_to(folder).as_posix().encode("utf-8", "surrogateescape"))

    return set(sorted(images, key=rank)[: -(-len(images) // _HELD_OUT) if len(images) > 1 else 0])


def split_files(
    good: Sequence[LabeledImage],
    defective: Sequence[LabeledImage],
    folder: Path,
    masks: Sequence[Path] = (),
    notes: Sequence[str] = (),
) -> CategoryFiles:
    """Return the files of a category of which a fifth of the good images is held out."""
    held_out = hold_out([image.path for image in good], folder)
    train = tuple(image.path for image in good if image.path not in held_out)
    test = (*(image for image in good if image.path in held_out), *defective)
    split = f"no split in this layout: {len(held_out)} of {len(good)} normal images are held out for the test"
    return CategoryFiles(train, test, tuple(masks), (split, *notes) if good else tuple(notes))
