"""The known layouts, and the choice among them: by what a folder holds, or by --layout."""

from __future__ import annotations

import contextlib
from contextvars import ContextVar
from pathlib import Path
from typing import Iterator, Optional, Tuple

from adq_edge.core.errors import DataError
from adq_edge.datasets.layouts.files import CategoryFiles, Layout
from adq_edge.datasets.layouts.folders import is_flat, subfolders
from adq_edge.datasets.layouts.good_and_bad import GOOD_AND_BAD
from adq_edge.datasets.layouts.images_only import IMAGES_ONLY
from adq_edge.datasets.layouts.masks_beside import FOLDERS_WITH_MASKS, KOLEKTOR_ITEMS, MASKS_BESIDE
from adq_edge.datasets.layouts.real_iad import REAL_IAD
from adq_edge.datasets.layouts.test_only import TEST_ONLY
from adq_edge.datasets.layouts.train_test import TRAIN_TEST, has_training_set
from adq_edge.datasets.layouts.visa import VISA, is_visa

LAYOUTS = (
    VISA,
    TRAIN_TEST,
    REAL_IAD,
    KOLEKTOR_ITEMS,
    GOOD_AND_BAD,
    MASKS_BESIDE,
    FOLDERS_WITH_MASKS,
    IMAGES_ONLY,
    TEST_ONLY,
)
"""The layouts, in the order in which a folder is compared with them."""

_chosen: ContextVar[Optional[Layout]] = ContextVar("chosen", default=None)


@contextlib.contextmanager
def use_layout(name: Optional[str]) -> Iterator[None]:
    """Read every dataset in this block in one layout; by what its folders hold if `name` is None.

    Raises:
        DataError: no layout has this name.
    """
    token = _chosen.set(None if name is None else _named(name))
    try:
        yield
    finally:
        _chosen.reset(token)


def _named(name: str) -> Layout:
    found = next((layout for layout in LAYOUTS if name.lower() in layout.names), None)
    if found is None:
        known = ", ".join(name for layout in LAYOUTS for name in layout.names)
        raise DataError(f"no layout named {name!r}", fix=f"Use one of: {known}")
    return found


def chosen_layout() -> Optional[Layout]:
    """Return the layout that the user named; None if it is found by what a folder holds."""
    return _chosen.get()


def layout_arguments() -> Tuple[str, ...]:
    """Return the arguments that name the chosen layout in another command; none without --layout."""
    layout = _chosen.get()
    return () if layout is None else ("--layout", layout.names[0])


def is_category(folder: Path) -> bool:
    """Return True if a folder has the folders of one category.

    A folder named `test` or `good` may itself be a category: it then has a folder of normal training images.
    """
    return not any(map(_is_split_category, subfolders(folder).values())) and _layout(folder) is not None


def _is_split_category(folder: Path) -> bool:
    return is_visa(folder) or has_training_set(folder)


def _layout(folder: Path) -> Optional[Layout]:
    chosen = _chosen.get()
    candidates = [layout for layout in LAYOUTS if layout.is_automatic] if chosen is None else [chosen]
    return next((layout for layout in candidates if layout.recognizes(folder)), None)


def has_only_images(folder: Path) -> bool:
    """Return True if a folder that is no category is one of normal images."""
    return _chosen.get() is None and is_flat(folder)


def read_files(folder: Path) -> CategoryFiles:
    """Return the files of a category; only masks that label an image are opened.

    Raises:
        DataError: the training folder has no folder of normal images, a split is damaged, or a mask is.
        StorageError: a folder or a mask cannot be read.
    """
    return (_layout(folder) or IMAGES_ONLY).read(folder)
