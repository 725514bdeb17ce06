"""Which labelled images an engine is measured on, where the user leaves the choice to us."""

from __future__ import annotations

from pathlib import Path
from typing import Optional, Sequence, Union

from adq_edge.core.console import print_categories
from adq_edge.core.errors import DataError
from adq_edge.datasets.mvtec import Dataset, known_categories, read_dataset
from adq_edge.runtimes.base import Engine


def choose_dataset(
    engine: Engine, data: Optional[Union[str, Path]], categories: Optional[Sequence[str]]
) -> Dataset:
    """Return the dataset that an engine is measured on.

    Args:
        engine: the engine.
        data: dataset in MVTec AD layout; by default the one that the model was trained on.
        categories: the categories to take; by default those that the model was trained on, or all of a
            dataset that has none of them.

    Raises:
        DataError: no dataset, or no such category in it.
    """
    root = data if data is not None else engine.sidecar.data
    if root is None:
        raise DataError(
            "the engine does not say what data it was trained on", fix="Name a dataset with --data"
        )
    if not categories:
        categories = known_categories(Path(root), engine.sidecar.categories)
        print_categories("evaluation", categories)
    return read_dataset(Path(root), categories)
