"""Find the good images of each product: in the categories of a dataset, or in named folders."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List, Mapping, Optional, Sequence, Tuple, Union

from adq_edge.artifacts.products import check_product_name
from adq_edge.core.errors import AdqError, DataError
from adq_edge.core.files import real_path
from adq_edge.core.images.folders import find_images, is_folder
from adq_edge.datasets.dataset import known_categories, print_notes, read_dataset
from adq_edge.datasets.layouts.registry import prefer_layout
from adq_edge.runtimes.base import Engine

Folders = Union[str, Path, Sequence[Union[str, Path]]]
"""A folder, or several."""


def good_images(
    engine: Engine,
    data: Optional[Union[str, Path]],
    good: Optional[Mapping[str, Folders]],
    products: Optional[Sequence[str]],
) -> Dict[str, Tuple[List[Path], Tuple[str, ...]]]:
    """Return the image files of each product, and the folders that they were given by.

    Args:
        engine: the engine; its dataset is used if neither `data` nor `good` is given.
        data: dataset folder; the normal training images of each category are the good images of a product.
        good: folders of good images by product, instead of `data`.
        products: the categories of `data`; by default those that the model was trained on.

    Raises:
        DataError: no images, or no such folder.
        AdqError: both or neither of `data` and `good`, or an impossible name.
    """
    if good is not None:
        if data is not None:
            raise AdqError("--data and --good are given", fix="Give one of them")
        for name in good:
            _check_name(name, "--product")
        return {name: _images_in(_as_list(folders)) for name, folders in good.items()}
    root = data if data is not None else engine.sidecar.data
    if root is None:
        raise DataError(
            "no good images given", fix="Give a dataset with --data DIR, or --product NAME --good DIR"
        )
    names = [products] if isinstance(products, str) else list(products or ())
    with prefer_layout(engine.sidecar.layout):
        names = names or list(known_categories(Path(root), engine.sidecar.categories))
        dataset = read_dataset(Path(root), names or None)
    print_notes(dataset)
    for one in dataset.categories:
        _check_name(one.name, dataset.root)
    return {one.name: (list(one.train), (str(dataset.root),)) for one in dataset.categories}


def _check_name(name: str, where: Union[str, Path]) -> None:
    try:
        check_product_name(name)
    except ValueError as problem:
        raise AdqError(str(problem), where=where, fix="Give a short name such as bolt") from problem


def _images_in(folders: Sequence[Path]) -> Tuple[List[Path], Tuple[str, ...]]:
    found: List[Path] = []
    for folder in folders:
        if not is_folder(folder):
            raise DataError("no such folder of good images", where=folder, fix="Name a folder with --good")
        images = sorted(find_images(folder))
        if not images:
            raise DataError("no images in this folder", where=folder, fix="Name a folder of good images")
        found += images
    return found, tuple(map(str, folders))


def _as_list(folders: Folders) -> List[Path]:
    return [Path(folders)] if isinstance(folders, (str, Path)) else [Path(folder) for folder in folders]


def training_notes(
    engine: Engine, data: Optional[Union[str, Path]], good: Optional[Mapping[str, Folders]]
) -> List[str]:
    """Return a note if the model was, or may have been, trained on the good images."""
    if engine.sidecar.data is None:
        return []
    trained_on = real_path(engine.sidecar.data)
    if good is not None:
        folders = [folder.resolve() for given in good.values() for folder in _as_list(given)]
        if not any(_holds_training_images(folder, trained_on) for folder in folders):
            return []
    elif data is not None and Path(data).resolve() != trained_on:
        return []
    known = "may have been trained" if engine.sidecar.imported else "was trained"
    return [
        f"the model {known} on these images, so it may reject more of the other good parts than promised. "
        "Better are good images that training did not use: fit --product NAME --good DIR"
    ]


def _holds_training_images(folder: Path, dataset: Path) -> bool:
    """Return True if a folder is in the training half of a dataset, `CATEGORY/train` or below."""
    return dataset in folder.parents and "train" in folder.relative_to(dataset).parts
