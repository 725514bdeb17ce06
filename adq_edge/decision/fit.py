"""`fit`: learn products from good images, on the engine that will judge them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

from adq_edge.artifacts import workspace
from adq_edge.artifacts.file_kinds import describe_non_engine
from adq_edge.artifacts.products import (
    FIT_AGAIN,
    Product,
    Products,
    check_product_name,
    find_products,
    products_path,
    read_products,
)
from adq_edge.core.console import progress_bar
from adq_edge.core.errors import AdqError, DataError, EngineError
from adq_edge.core.files import check_writable, settle, sha256, storage_errors, write_together
from adq_edge.core.images.folders import find_images, is_folder
from adq_edge.datasets.dataset import known_categories, print_notes, read_dataset
from adq_edge.decision.collection import collect, count_pasted
from adq_edge.decision.inspector import check_rate
from adq_edge.decision.learning import learn
from adq_edge.decision.recognition import Recognizer
from adq_edge.runtimes.base import Engine
from adq_edge.runtimes.registry import load_engine

DEFAULT_FALSE_REJECTS = 0.01

Folders = Union[str, Path, Sequence[Union[str, Path]]]


@dataclasses.dataclass(frozen=True)
class Fit:
    """The result of `fit`.

    Attributes:
        path: the products file.
        engine: the engine file.
        products: its content.
        fitted: names of the products that were learned.
        notes: what the user should know, one sentence each.
    """

    path: Path
    engine: Path
    products: Products
    fitted: Tuple[str, ...]
    notes: Tuple[str, ...]


def fit(
    engine: Optional[Union[str, Path]] = None,
    data: Optional[Union[str, Path]] = None,
    *,
    good: Optional[Mapping[str, Folders]] = None,
    products: Optional[Sequence[str]] = None,
    false_rejects: Optional[float] = None,
    clean: bool = False,
    runtime: Optional[str] = None,
    threads: Optional[int] = None,
) -> Fit:
    """Learn products from good images and write them beside the engine.

    Products of the file that are not learned now stay as they are.

    Args:
        engine: the engine file; the newest in `engines/` by default.
        data: dataset folder; the normal training images of each category are the good images of a product.
        good: folders of good images by product, instead of `data`.
        products: the categories of `data` to learn; by default those that the model was trained on.
        false_rejects: the share of good parts that may be rejected, above 0 and below 1; by default that of
            the file, 0.01 for a new one.
        clean: leave out good images that look defective.
        runtime: name of the runtime; the one that the engine was built for by default.
        threads: CPU threads; all by default.

    Raises:
        DataError: no good images, too few different ones, or one that cannot be read.
        EngineError: the engine cannot be loaded or changed meanwhile, or an output is not finite.
        AdqError: an impossible rate or name.
    """
    check_rate(false_rejects)
    path = workspace.latest_engine() if engine is None else Path(engine)
    check_writable(products_path(path), Products.kind())
    with load_engine(path, runtime=runtime, threads=threads) as loaded:
        earlier = _earlier(loaded)
        learned, notes = _learn_all(loaded, data, good, products, clean)
        sha = loaded.sidecar.engine_sha256
    merged = earlier
    with write_together() as files:
        files.check(lambda: _require_same_engine(path, sha))
        merged = _merge(_read_again(path, sha, earlier), learned, false_rejects)
        merged.write(products_path(path))
    notes += _similar_products(merged, learned)
    return Fit(products_path(path), path, merged, tuple(product.name for product in learned), tuple(notes))


def fit_new_engine(engine: Engine, data: Union[str, Path]) -> Fit:
    """Learn products on an engine that a transaction is about to move to its path, and write them with it.

    The false-reject rate is that of the earlier file. Arguments and errors are those of `fit`.
    """
    earlier = _earlier(engine)
    learned, notes = _learn_all(engine, data, None, None, clean=False)
    merged = _merge(earlier, learned, None)
    merged.write(products_path(engine.path))
    notes += _similar_products(merged, learned)
    names = tuple(product.name for product in learned)
    return Fit(products_path(engine.path), engine.path, merged, names, tuple(notes))


def remove_products(engine: Optional[Union[str, Path]], names: Sequence[str]) -> Fit:
    """Remove products from an engine's products file; errors are those of `list_products`."""
    before = list_products(engine)
    after = before.products.without(names, before.path)
    with write_together():
        after.write(before.path)
    return dataclasses.replace(before, products=after)


def change_rate(engine: Optional[Union[str, Path]], false_rejects: float) -> Fit:
    """Store another false-reject rate; nothing is learned. Errors are those of `list_products`.

    Raises:
        AdqError: an impossible rate.
    """
    check_rate(false_rejects)
    before = list_products(engine)
    after = dataclasses.replace(before.products, false_rejects=false_rejects)
    with write_together():
        after.write(before.path)
    return dataclasses.replace(before, products=after)


def list_products(engine: Optional[Union[str, Path]] = None) -> Fit:
    """Return the products of an engine.

    Raises:
        EngineError: no such engine, it has no products, or its products are those of another engine.
    """
    path = workspace.latest_engine() if engine is None else Path(engine)
    with storage_errors(path):
        other = describe_non_engine(path)
    if other is not None:
        raise EngineError(other.what, where=path, fix=other.fix)
    found = read_products(path, sha256(path))
    if found is None:
        fix = f"Learn them from good images: adq-edge fit {path} --data DIR"
        raise EngineError("has no products", where=path, fix=fix)
    return Fit(products_path(path), path, found, (), ())


def has_products(engine: Optional[Union[str, Path]] = None) -> bool:
    """Return True if an engine has a products file, usable or not."""
    path = workspace.latest_engine() if engine is None else Path(engine)
    settle(products_path(path))
    return products_path(path).exists()


def _good_images(
    engine: Engine,
    data: Optional[Union[str, Path]],
    good: Optional[Mapping[str, Folders]],
    products: Optional[Sequence[str]],
) -> Dict[str, Tuple[List[Path], Tuple[str, ...]]]:
    """Return the image files and the folders of each product."""
    if good is not None:
        if data is not None:
            raise AdqError("--data and --good are given", fix="Give one of them")
        return {name: _images_in(name, _as_list(folders)) for name, folders in good.items()}
    root = data if data is not None else engine.sidecar.data
    if root is None:
        raise DataError(
            "no good images given", fix="Give a dataset with --data DIR, or --product NAME --good DIR"
        )
    names = [products] if isinstance(products, str) else list(products or ())
    names = names or list(known_categories(Path(root), engine.sidecar.categories))
    dataset = read_dataset(Path(root), names or None)
    print_notes(dataset)
    return {one.name: (list(one.train), (str(dataset.root),)) for one in dataset.categories}


def _images_in(name: str, folders: Sequence[Path]) -> Tuple[List[Path], Tuple[str, ...]]:
    try:
        check_product_name(name)
    except ValueError as problem:
        raise AdqError(str(problem), where="--product", fix="Give a short name such as bolt") from problem
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


def _learn_all(
    engine: Engine,
    data: Optional[Union[str, Path]],
    good: Optional[Mapping[str, Folders]],
    products: Optional[Sequence[str]],
    clean: bool,
) -> Tuple[List[Product], List[str]]:
    """Return the learned products, and notes."""
    folders = _good_images(engine, data, good, products)
    learned: List[Product] = []
    notes = list(_training_notes(engine, data, good))
    for name, (paths, sources) in folders.items():
        found, more = _learn(engine, name, paths, sources, clean)
        learned.append(found)
        notes += more
    return learned, notes


def _learn(
    engine: Engine, name: str, paths: Sequence[Path], sources: Sequence[str], clean: bool
) -> Tuple[Product, List[str]]:
    total = len(paths) + count_pasted(max(1, len(paths)))
    with progress_bar(f"Learning {name}", total, "images") as advance:
        good, pasted, notes = collect(engine, name, paths, advance)
    return learn(name, good, pasted, sources, clean=clean), notes


def _earlier(engine: Engine) -> Products:
    """Return the products of the engine; if they are of another engine file or runtime, only their rate."""
    sha, runtime = engine.sidecar.engine_sha256, engine.runtime
    try:
        found = find_products(engine.path)
    except EngineError:
        found = None
    if found is None:
        return Products(sha, runtime, DEFAULT_FALSE_REJECTS, ())
    is_same = (found.engine_sha256, found.runtime) == (sha, runtime)
    return found if is_same else Products(sha, runtime, found.false_rejects, ())


def _read_again(path: Path, sha: str, earlier: Products) -> Products:
    """Return the products that another process may have written meanwhile."""
    try:
        found = read_products(path, sha)
    except EngineError:
        return earlier
    return earlier if found is None or found.runtime != earlier.runtime else found


def _merge(earlier: Products, learned: Sequence[Product], false_rejects: Optional[float]) -> Products:
    merged = earlier.with_products(learned)
    return merged if false_rejects is None else dataclasses.replace(merged, false_rejects=false_rejects)


def _require_same_engine(path: Path, sha: str) -> None:
    if sha256(path) != sha:
        raise EngineError("changed meanwhile, and nothing is stored", where=path, fix=FIT_AGAIN)


def _training_notes(
    engine: Engine, data: Optional[Union[str, Path]], good: Optional[Mapping[str, Folders]]
) -> List[str]:
    """Return a note if the good images are those that the model was trained on."""
    trained_on = engine.sidecar.data
    if good is not None or trained_on is None:
        return []
    if data is not None and Path(data).resolve() != Path(trained_on).resolve():
        return []
    return [
        "the model was trained on these images, so it may reject more of the other good parts than promised. "
        "Better are good images that training did not use: fit --product NAME --good DIR"
    ]


def _similar_products(products: Products, learned: Sequence[Product]) -> List[str]:
    """Return a note for each product whose mean is as near to another one as that one's own images."""
    notes = []
    for product in learned:
        mean = np.array(product.recognition.mean, np.float32)
        for other in products.products:
            if other.name != product.name and Recognizer([other]).recognize(mean).is_known:
                notes.append(
                    f"{product.name} and {other.name} look alike: the average {product.name} could be one of "
                    f"{other.name}, too. Name the product: predict --product NAME"
                )
                break
    return notes
