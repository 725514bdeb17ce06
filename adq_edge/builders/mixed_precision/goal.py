"""What `build --max-drop` is asked to hold, and what that is measured on."""

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
from adq_edge.datasets.mvtec import Category, Dataset, read_dataset

_IMAGES = 16
_SEED = 1
"""Not the calibration's: where there are more images than it takes, others are measured with."""


@dataclasses.dataclass(frozen=True)
class Goal:
    """What a plan is searched for.

    Attributes:
        max_drop: the largest drop allowed, 0 or more.
        labelled: the categories with normal and defective test images; None where there are none.
        images: normal images and the same with synthetic defects, to find the worst layers with and,
            without labelled images, to measure the drop on.
        folder: where they are.
        keep_nearest: whether the nearest plan will do where none holds the limit.
    """

    max_drop: float
    labelled: Optional[Dataset]
    images: CalibrationSource
    folder: Path
    keep_nearest: bool

    @property
    def measure(self) -> Measure:
        """What the drop is."""
        return Measure.MAP_ERROR if self.labelled is None else Measure.IMAGE_AUROC


def check_options(options: BuildOptions) -> None:
    """Refuse options that do not go together, before any file is read.

    Raises:
        BuildError: no INT8, two answers at once, a limit that is no number of 0 or more, or an option that
            only a search reads without one.
    """
    max_drop, plan = options.max_drop, options.plan
    if options.precision is not Precision.INT8 and (max_drop is not None or plan is not None):
        option = "--max-drop" if plan is None else "--plan"
        raise BuildError(f"{option} is for INT8 engines only", fix="Give --int8, or leave it away")
    if max_drop is not None and plan is not None:
        raise BuildError("a plan is given and another one asked for", fix="Give --max-drop or --plan")
    if max_drop is None and (options.data is not None or options.keep_nearest):
        option = "--keep-nearest" if options.data is None else "--data"
        raise BuildError(f"{option} is only read in the search for a plan", fix="Add --max-drop DROP")
    if max_drop is not None and not 0 <= max_drop < math.inf:
        raise BuildError(f"a drop of {max_drop:g} cannot be held", fix="Give --max-drop 0 or more")


def set_goal(bundle: Bundle, max_drop: float, options: BuildOptions) -> Goal:
    """Find what the drop can be measured on; no image is read yet.

    Args:
        bundle: the model.
        max_drop: the largest drop allowed.
        options: `data`, by default the dataset that the model was trained on if it is labelled; `calib_data`,
            the images to measure on without a labelled dataset; `keep_nearest`.

    Raises:
        DataError: `data` is no dataset, or has no category with both normal and defective test images.
        CalibrationError: there are no normal images.
    """
    labelled = _labelled(bundle, options.data)
    if labelled is not None:
        folder: Optional[Path] = labelled.root
    elif options.calib_data is not None and options.calib_data != RANDOM_NORMAL:
        folder = Path(options.calib_data)
    else:
        folder = default_folder(bundle)
    images = make_source(
        f"{IMAGES},{SYNTHETIC_DEFECTS}", folder, _IMAGES, _SEED, own_categories(bundle, folder)
    )
    assert folder is not None  # or there was no source to make
    return Goal(max_drop, labelled, images, folder, options.keep_nearest)


def _labelled(bundle: Bundle, data: Optional[Union[str, Path]]) -> Optional[Dataset]:
    trained_on = bundle.manifest.data
    if data is None and (trained_on is None or not Path(trained_on).is_dir()):
        return None
    try:
        root = Path(trained_on or "") if data is None else Path(data)
        dataset = read_dataset(root, own_categories(bundle, root))
    except DataError:
        if data is None:
            return None  # a folder of another layout: good enough for images, not for labels
        raise
    measurable = tuple(category for category in dataset.categories if _has_both_kinds(category))
    if measurable:
        return dataclasses.replace(dataset, categories=measurable)
    if data is None:
        return None
    raise DataError(
        "no category has both normal and defective test images",
        where=dataset.root,
        fix="Put labelled images in CATEGORY/test/good and DEFECT, or leave --data away",
    )


def _has_both_kinds(category: Category) -> bool:
    return len({sample.is_anomalous for sample in category.test}) == 2
