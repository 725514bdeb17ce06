"""The goal of `build --max-drop`: the largest drop, and the images that it is measured on."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Optional, Union

from adq_edge.artifacts.bundle import Bundle
from adq_edge.artifacts.precision_plan import Measure
from adq_edge.calibration.selection import default_folder, own_categories
from adq_edge.calibration.sources import (
    IMAGES,
    RANDOM_NORMAL,
    SYNTHETIC_DEFECTS,
    CalibrationSource,
    make_source,
)
from adq_edge.core.errors import BuildError, DataError
from adq_edge.core.options import BuildOptions, Precision
from adq_edge.datasets.dataset import Category, Dataset, read_dataset
from adq_edge.datasets.layouts.registry import prefer_layout

_IMAGES = 16
_SEED = 1
"""Differs from the calibration's seed, so that a large folder gives other images."""


@dataclasses.dataclass(frozen=True)
class Goal:
    """The goal of the search for a plan.

    Attributes:
        max_drop: the largest allowed drop, 0 or more.
        labeled: the categories with normal and defective test images; None if there are none.
        images: normal images, some with synthetic defects; used to find the worst layers, and to measure the
            drop if `labeled` is None.
        folder: folder of the images.
        keep_nearest: True to accept the plan with the smallest drop if none meets `max_drop`.
    """

    max_drop: float
    labeled: Optional[Dataset]
    images: CalibrationSource
    folder: Path
    keep_nearest: bool

    @property
    def measure(self) -> Measure:
        """Definition of the drop."""
        return Measure.MAP_ERROR if self.labeled is None else Measure.IMAGE_AUROC


def check_options(options: BuildOptions) -> None:
    """Check the options of mixed precision before any file is read.

    Raises:
        BuildError: options contradict each other, a required option is missing, or `max_drop` is not a
            number of 0 or more.
    """
    max_drop, plan = options.max_drop, options.plan
    if options.precision is not Precision.INT8 and (max_drop is not None or plan is not None):
        option = "--max-drop" if plan is None else "--plan"
        raise BuildError(f"{option} is for INT8 engines only", fix="Give --int8, or omit it")
    if max_drop is not None and plan is not None:
        raise BuildError("--max-drop and --plan exclude each other", fix="Give one of them")
    if max_drop is None and (options.data is not None or options.keep_nearest):
        option = "--keep-nearest" if options.data is None else "--data"
        raise BuildError(f"{option} is for the search for a plan only", fix="Add --max-drop DROP")
    if max_drop is not None and not 0 <= max_drop < math.inf:
        raise BuildError(f"--max-drop is {max_drop:g}", fix="Give 0 or more")


def set_goal(bundle: Bundle, max_drop: float, options: BuildOptions) -> Goal:
    """Choose the images that the drop is measured on, without reading them.

    Args:
        bundle: the bundle.
        max_drop: the largest allowed drop.
        options: the options of the build. `data` is the labeled dataset, by default the training dataset.
            `calib_data` is the folder of images if there is no labeled dataset.

    Raises:
        DataError: `data` is not a dataset, or no category has both normal and defective test images.
        CalibrationError: there are no normal images.
    """
    with prefer_layout(bundle.manifest.layout, needs_labels=options.data is not None):
        labeled = _labeled_dataset(bundle, options.data)
        if labeled is not None:
            folder: Optional[Path] = labeled.root
        elif options.calib_data is not None and options.calib_data != RANDOM_NORMAL:
            folder = Path(options.calib_data)
        else:
            folder = default_folder(bundle)
        images = make_source(
            f"{IMAGES},{SYNTHETIC_DEFECTS}", folder, _IMAGES, _SEED, own_categories(bundle, folder)
        )
    assert folder is not None  # else `make_source` fails
    return Goal(max_drop, labeled, images, folder, options.keep_nearest)


def _labeled_dataset(bundle: Bundle, data: Optional[Union[str, Path]]) -> Optional[Dataset]:
    trained_on = bundle.manifest.data
    if data is None and (trained_on is None or not Path(trained_on).is_dir()):
        return None
    try:
        root = Path(trained_on or "") if data is None else Path(data)
        dataset = read_dataset(root, own_categories(bundle, root), needs_training=False)
    except DataError:
        if data is None:
            return None  # a folder of another layout has no labels
        raise
    measurable = tuple(category for category in dataset.categories if _has_both_classes(category))
    if measurable:
        return dataclasses.replace(dataset, categories=measurable)
    if data is None:
        return None
    raise DataError(
        "no category has both normal and defective test images",
        where=dataset.root,
        fix="Put labeled images in CATEGORY/test/good and DEFECT, or omit --data",
    )


def _has_both_classes(category: Category) -> bool:
    return len({sample.is_anomalous for sample in category.test}) == 2
