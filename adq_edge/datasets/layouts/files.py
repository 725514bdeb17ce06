"""The files of a category, as a layout reads them, and the layout itself."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Callable, Optional, Tuple


@dataclasses.dataclass(frozen=True)
class LabeledImage:
    """A test image.

    Attributes:
        path: the file.
        defect: the kind of defect, or `GOOD`.
        folder: the folder of its kind of defect, or one above it; the image's name is relative to it.
        mask: the mask file, if the layout states it; else `mask_files` looks for one.
    """

    path: Path
    defect: str
    folder: Path
    mask: Optional[Path] = None


@dataclasses.dataclass(frozen=True)
class CategoryFiles:
    """The files of a category.

    Attributes:
        train: normal images.
        test: labeled images.
        masks: folders of masks; each holds a folder for each kind of defect.
        notes: images that were found and are not used, and splits that were made; one sentence each.
    """

    train: Tuple[Path, ...] = ()
    test: Tuple[LabeledImage, ...] = ()
    masks: Tuple[Path, ...] = ()
    notes: Tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Layout:
    """A way to store the images of a category in folders.

    Attributes:
        names: values of --layout that select it: its own name, and those of datasets that have it.
        folders: its folders below the category, for messages.
        recognizes: returns True if a folder is a category in this layout.
        read: returns the files of a category.
        is_automatic: True if it is tried without --layout.
    """

    names: Tuple[str, ...]
    folders: str
    recognizes: Callable[[Path], bool]
    read: Callable[[Path], CategoryFiles]
    is_automatic: bool = True
