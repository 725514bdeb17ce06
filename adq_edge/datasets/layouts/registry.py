"""The known layouts, and the choice among them: by --layout, by the training, or by what a folder holds."""

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
_preferred: ContextVar[Optional[Layout]] = ContextVar("preferred", default=None)


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


@contextlib.contextmanager
def prefer_layout(name: Optional[str], *, needs_labels: bool = False) -> Iterator[None]:
    """Read datasets in this block in the layout that a model was trained with, where a folder has it.

    Other folders are read by what they hold. A layout that the user named comes first.

    Args:
        name: the layout of the training. Without one, or with a name of another release, nothing changes.
        needs_labels: True if labeled images are read, which the layout `images` has not.
    """
    layout = None if name is None else _find(name)
    is_suited = layout is not None and not (needs_labels and layout is IMAGES_ONLY)
    token = _preferred.set(layout if is_suited else _preferred.get())
    try:
        yield
    finally:
        _preferred.reset(token)


def _find(name: str) -> Optional[Layout]:
    return next((layout for layout in LAYOUTS if name.lower() in layout.names), None)


def _named(name: str) -> Layout:
    found = _find(name)
    if found is None:
        known = ", ".join(name for layout in LAYOUTS for name in layout.names)
        raise DataError(f"no layout named {name!r}", fix=f"Use one of: {known}")
    return found


def chosen_layout() -> Optional[Layout]:
    """Return the layout that the user named; None if it is found by what a folder holds."""
    return _chosen.get()


def chosen_layout_name() -> Optional[str]:
    """Return the name of the layout that the user named; None if it is found by what a folder holds."""
    layout = _chosen.get()
    return None if layout is None else layout.names[0]


def layout_arguments() -> Tuple[str, ...]:
    """Return the arguments that name the chosen layout in another command; none without --layout."""
    name = chosen_layout_name()
    return () if name is None else ("--layout", name)


def is_category(folder: Path) -> bool:
    """Return True if a folder has the folders of one category.

    A folder named `test` or `good` may itself be a category: it then has a folder of normal training images.
    """
    return not any(map(_is_split_category, subfolders(folder).values())) and _layout(folder) is not None


def _is_split_category(folder: Path) -> bool:
    return is_visa(folder) or has_training_set(folder)


def _layout(folder: Path) -> Optional[Layout]:
    chosen, preferred = _chosen.get(), _preferred.get()
    if chosen is not None:
        return chosen if chosen.recognizes(folder) else None
    if preferred is not None and preferred.recognizes(folder):
        return preferred
    return next((layout for layout in LAYOUTS if layout.is_automatic and layout.recognizes(folder)), None)


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
