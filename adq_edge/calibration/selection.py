"""Chooses the calibration images of a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Optional, Tuple, Union

from adq_edge.artifacts import workspace
from adq_edge.artifacts.bundle import Bundle
from adq_edge.calibration.sources import (
    IMAGES,
    RANDOM_NORMAL,
    CalibrationSource,
    has_images,
    make_source,
    reads_categories,
)
from adq_edge.core.errors import CalibrationError
from adq_edge.datasets.dataset import (
    is_dataset,
    known_categories,
    print_categories,
    print_notes,
    read_dataset,
)
from adq_edge.datasets.layouts.registry import prefer_layout


def choose_source(
    bundle: Bundle, spec: str, data: Optional[Union[str, Path]], samples: int
) -> CalibrationSource:
    """Return the calibration images of a bundle.

    Args:
        bundle: the bundle.
        spec: the name of a source, or several names separated by commas.
        data: folder of images, or `random-normal` for that source; by default `calibration_data/`, else the
            training dataset. In a dataset, only the model's categories are read.
        samples: the largest number of images.

    Raises:
        CalibrationError: no such source, a source without images, or `random-normal` with another source.
    """
    if data == RANDOM_NORMAL:
        if spec not in (IMAGES, RANDOM_NORMAL):
            raise CalibrationError(
                f"source {spec!r} cannot read the images of {RANDOM_NORMAL!r}",
                fix=f"Mix them: --source {spec},{RANDOM_NORMAL}",
            )
        return make_source(RANDOM_NORMAL, None, samples)
    with prefer_layout(bundle.manifest.layout):
        folder = default_folder(bundle) if data is None else Path(data)
        categories = own_categories(bundle, folder)
        if reads_categories(spec):
            print_categories("calibration", categories)
            if folder is not None and is_dataset(folder):
                print_notes(read_dataset(folder, categories))
        return make_source(spec, folder, samples, categories=categories)


def own_categories(bundle: Bundle, folder: Optional[Path]) -> Tuple[str, ...]:
    """Return the model's categories if the dataset has others too; else an empty tuple, which means all."""
    return () if folder is None else known_categories(folder, bundle.manifest.categories)


def default_folder(bundle: Bundle) -> Optional[Path]:
    """Return `calibration_data/`, else the training dataset; None if neither has an image."""
    trained_on = None if bundle.manifest.data is None else Path(bundle.manifest.data)
    return next((path for path in (workspace.CALIBRATION_DATA, trained_on) if has_images(path)), None)
