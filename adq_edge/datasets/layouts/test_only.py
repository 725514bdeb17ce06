"""Layout of a copy with test images only: every labeled image is a test image."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import List

from adq_edge.datasets.label_names import plain
from adq_edge.datasets.layouts.files import CategoryFiles, Layout
from adq_edge.datasets.layouts.folders import TEST_NAMES, named_folders
from adq_edge.datasets.layouts.good_and_bad import GOOD_AND_BAD, read_labeled_images
from adq_edge.datasets.layouts.mask_names import MASK_FOLDERS
from adq_edge.datasets.layouts.train_test import TRAIN_TEST


def _recognizes(folder: Path) -> bool:
    return bool(named_folders(folder, TEST_NAMES)) or GOOD_AND_BAD.recognizes(folder)


def _read(folder: Path) -> CategoryFiles:
    if named_folders(folder, TEST_NAMES):
        return dataclasses.replace(TRAIN_TEST.read(folder), train=())
    notes: List[str] = []
    labeled = read_labeled_images(folder, notes)
    path = folder.resolve()
    above = named_folders(path.parent, MASK_FOLDERS) if plain(path.name) in TEST_NAMES else []
    return CategoryFiles((), tuple(labeled), (*named_folders(folder, MASK_FOLDERS), *above), tuple(notes))


TEST_ONLY = Layout(
    ("test-only",), "test/good, test/DEFECT; or good, DEFECT", _recognizes, _read, is_automatic=False
)
