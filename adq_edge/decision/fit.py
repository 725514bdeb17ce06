"""`fit`: learn products from good images, on the engine that will judge them."""

from __future__ import annotations

import collections
import dataclasses
from pathlib import Path
from typing import Callable, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

from adq_edge.artifacts import workspace
from adq_edge.artifacts.file_kinds import reject_other_kinds
from adq_edge.artifacts.products import (
    FIT_AGAIN,
    Product,
    Products,
    find_products,
    listed,
    products_path,
    read_products,
)
from adq_edge.core.console import progress_bar
from adq_edge.core.errors import EngineError
from adq_edge.core.files import check_writable, settle, sha256, storage_errors, write_together
from adq_edge.core.reading import LARGEST_JSON, read_regular
from adq_edge.core.text import command_line
from adq_edge.decision.arguments import check_rate
from adq_edge.decision.collection import collect, count_pasted
from adq_edge.decision.learning import find_doubtful, learn
from adq_edge.decision.recognition import Recognizer
from adq_edge.decision.sources import Folders, good_images, training_notes
from adq_edge.runtimes.base import Engine
from adq_edge.runtimes.registry import load_engine

DEFAULT_FALSE_REJECTS = 0.01
_ATTEMPTS = 20


@dataclasses.dataclass(frozen=True)
class Fit:
    """The result of `fit`.

    Attributes:
        path: the products file.
        engine: the engine file.
        products: content of the products file.
        fitted: names of the products that were learned.
        notes: what the user should know, one sentence each.
        doubtful: with `clean`, the kept images of each learned product that look most defective, worst first.
    """

    path: Path
    engine: Path
    products: Products
    fitted: Tuple[str, ...]
    notes: Tuple[str, ...]
    doubtful: Mapping[str, Tuple[str, ...]] = dataclasses.field(default_factory=dict)


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
        EngineError: the engine cannot be loaded, it changed during the fit, or an output is not finite.
        AdqError: an impossible rate or name.
    """
    check_rate(false_rejects)
    path = workspace.latest_engine() if engine is None else Path(engine)
    check_writable(products_path(path), Products.kind())
    with load_engine(path, runtime=runtime, threads=threads) as loaded:
        empty = _without_products(loaded)
        lost = _products_of_another(path, empty)
        learned, notes = _learn_all(loaded, data, good, products, clean)

    labeled: List[str] = []

    def merge(earlier: Products) -> Products:
        labeled[:] = [one.name for one in earlier.products if one.threshold is not None]
        merged = earlier.with_products(one.product for one in learned)
        return merged if false_rejects is None else dataclasses.replace(merged, false_rejects=false_rejects)

    merged = _store(path, empty, merge)
    notes += (
        *_notes_of_lost(lost, merged),
        *_notes_of_labels(labeled, learned),
        *_similarity_notes(merged, learned),
    )
    doubtful = {one.product.name: one.doubtful for one in learned if one.doubtful}
    return Fit(products_path(path), path, merged, _names(learned), tuple(notes), doubtful)


def fit_new_engine(engine: Engine, data: Union[str, Path]) -> Fit:
    """Learn products on a new engine, and write them in the transaction that writes the engine.

    The false-reject rate is that of the earlier file. Arguments and errors are those of `fit`.
    """
    empty = _without_products(engine)
    earlier, lost = _earlier(engine.path, empty), _products_of_another(engine.path, empty)
    learned, notes = _learn_all(engine, data, None, None, clean=False)
    merged = earlier.with_products(one.product for one in learned)
    merged.write(products_path(engine.path))
    notes += (*_notes_of_lost(lost, merged), *_similarity_notes(merged, learned))
    return Fit(products_path(engine.path), engine.path, merged, _names(learned), tuple(notes))


def remove_products(engine: Optional[Union[str, Path]], names: Sequence[str]) -> Fit:
    """Remove products from an engine's products file; errors are those of `list_products`."""
    before = list_products(engine)
    empty = dataclasses.replace(before.products, products=())
    after = _store(before.engine, empty, lambda earlier: earlier.without(names, before.path))
    return dataclasses.replace(before, products=after)


def change_rate(engine: Optional[Union[str, Path]], false_rejects: float) -> Fit:
    """Store another false-reject rate without learning. Errors are those of `list_products`.

    Raises:
        AdqError: an impossible rate.
    """
    check_rate(false_rejects)
    before = list_products(engine)
    empty = dataclasses.replace(before.products, products=())
    after = _store(
        before.engine, empty, lambda earlier: dataclasses.replace(earlier, false_rejects=false_rejects)
    )
    return dataclasses.replace(before, products=after)


def list_products(engine: Optional[Union[str, Path]] = None) -> Fit:
    """Return the products of an engine.

    Raises:
        EngineError: no such engine, it has no products, or its products are those of another engine.
    """
    path = workspace.latest_engine() if engine is None else Path(engine)
    reject_other_kinds(path)
    found = read_products(path, sha256(path))
    if found is None:
        fix = f"Learn them from good images: {command_line('fit', path, '--data', 'DIR')}"
        raise EngineError("has no products", where=path, fix=fix)
    return Fit(products_path(path), path, found, (), ())


def has_products(engine: Optional[Union[str, Path]] = None) -> bool:
    """Return True if an engine has a products file, usable or not."""
    path = workspace.latest_engine() if engine is None else Path(engine)
    settle(products_path(path))
    return products_path(path).exists()


@dataclasses.dataclass(frozen=True)
class _Learned:
    """A learned product.

    Attributes:
        product: the product.
        embeddings: embeddings of its good images, `[N, D]`.
        doubtful: with `clean`, the kept images that look most defective, worst first.
    """

    product: Product
    embeddings: np.ndarray
    doubtful: Tuple[str, ...]


def _names(learned: Sequence[_Learned]) -> Tuple[str, ...]:
    return tuple(one.product.name for one in learned)


def _learn_all(
    engine: Engine,
    data: Optional[Union[str, Path]],
    good: Optional[Mapping[str, Folders]],
    products: Optional[Sequence[str]],
    clean: bool,
) -> Tuple[List[_Learned], List[str]]:
    """Return the learned products, and notes."""
    folders = good_images(engine, data, good, products)
    learned: List[_Learned] = []
    notes = list(training_notes(engine, data, good))
    for name, (paths, sources) in folders.items():
        found, more = _learn(engine, name, paths, sources, clean)
        learned.append(found)
        notes += more
    return learned, notes


def _learn(
    engine: Engine, name: str, paths: Sequence[Path], sources: Sequence[str], clean: bool
) -> Tuple[_Learned, List[str]]:
    """Return a learned product, and notes."""
    total = len(paths) + count_pasted(max(1, len(paths)))
    with progress_bar(f"Learning {name}", total, "images") as advance:
        good, pasted, notes = collect(engine, name, paths, advance)
    product = learn(name, good, pasted, sources, clean=clean)
    try:
        product.check()
    except ValueError as problem:
        what = f"cannot learn the product {name!r} with this engine: {problem}"
        raise EngineError(what, where=engine.path, fix="Build it in a higher precision") from problem
    kept = good.select(np.flatnonzero([image not in product.suspicious for image in good.names]))
    doubtful = tuple(kept.names[index] for index in find_doubtful(kept)) if clean else ()
    return _Learned(product, kept.embeddings, doubtful), notes


def _without_products(engine: Engine) -> Products:
    """Return a products file without products, with the false-reject rate of an earlier one."""
    try:
        found = find_products(engine.path)
    except EngineError:
        found = None
    rate = DEFAULT_FALSE_REJECTS if found is None else found.false_rejects
    return Products(engine.sidecar.engine_sha256, engine.runtime, rate, ())


def _earlier(path: Path, empty: Products) -> Products:
    """Return the products in the file; `empty` if it has none for this engine and runtime.

    Raises:
        EngineError: the file is damaged.
    """
    try:
        found = find_products(path)
    except EngineError as error:
        fix = f"Restore it, or delete it and {FIT_AGAIN[0].lower()}{FIT_AGAIN[1:]}"
        raise EngineError(error.what, where=error.where, fix=fix) from error
    if found is None or (found.engine_sha256, found.runtime) != (empty.engine_sha256, empty.runtime):
        return empty
    return found


def _products_of_another(path: Path, empty: Products) -> Optional[Products]:
    """Return the products in the file if another engine or runtime made them; errors as in `_earlier`."""
    return find_products(path) if _earlier(path, empty) is empty else None


def _notes_of_lost(lost: Optional[Products], now: Products) -> List[str]:
    """Return a note on products of another engine or runtime that the fit removes from the file."""
    names = [] if lost is None else [name for name in lost.names if name not in now.names]
    if lost is None or not names:
        return []
    reason = "another engine file" if lost.engine_sha256 != now.engine_sha256 else lost.runtime
    return [f"removed {listed(names)}: fitted with {reason}. Fit them again if you need them"]


def _notes_of_labels(labeled: Sequence[str], learned: Sequence[_Learned]) -> List[str]:
    """Return a note on learned products whose earlier threshold was chosen from labeled images."""
    names = [name for name in _names(learned) if name in labeled]
    if not names:
        return []
    choose = "adq-edge eval ENGINE --choose-threshold f1 or cost"
    return [f"removed the thresholds from labeled images of {listed(names)}. Choose them again: {choose}"]


def _store(
    path: Path, empty: Products, change: Callable[[Products], Products], attempts: int = _ATTEMPTS
) -> Products:
    """Change the products of an engine and return them; a change of another process is kept.

    Args:
        path: the engine.
        empty: the content of the file if there is none for this engine and runtime.
        change: returns the products to write, from those in the file.
        attempts: number of tries if other processes write the file at the same time.

    Raises:
        EngineError: the engine or the file changed meanwhile.
    """
    before = _content(path)
    changed = change(_earlier(path, empty))
    try:
        changed.check()  # never write what cannot be read
    except ValueError as problem:
        what = f"nothing is stored, because the file could not be read again: {problem}"
        raise EngineError(what, where=products_path(path), fix="Remove products: fit --remove NAME") from None
    try:
        with write_together() as files:
            files.check(lambda: _require_same_engine(path, empty.engine_sha256))
            files.check(lambda: _require_same_content(path, before))
            changed.write(products_path(path))
    except _ProductsChangedError:
        if attempts == 1:
            raise
        return _store(path, empty, change, attempts - 1)
    return changed


class _ProductsChangedError(EngineError):
    """Another process wrote the products file meanwhile."""


def _content(path: Path) -> Optional[bytes]:
    file = products_path(path)
    settle(file)
    with storage_errors(file):
        return read_regular(file, LARGEST_JSON) if file.exists() else None


def _require_same_content(path: Path, before: Optional[bytes]) -> None:
    file = products_path(path)
    with storage_errors(file):
        now = read_regular(file, LARGEST_JSON) if file.exists() else None
    if now != before:
        raise _ProductsChangedError(
            "another process changed it during the fit; nothing is stored", where=file, fix=FIT_AGAIN
        )


def _require_same_engine(path: Path, sha: str) -> None:
    if sha256(path) != sha:
        raise EngineError("was replaced during the fit; nothing is stored", where=path, fix=FIT_AGAIN)


def _similarity_notes(products: Products, learned: Sequence[_Learned]) -> List[str]:
    """Return a note for each learned product that is confused with another one.

    Args:
        products: all products of the engine.
        learned: the products that were learned now.
    """
    recognizer = Recognizer(products.products)
    notes = []
    for one in learned:
        name, found = one.product.name, one.embeddings
        nearest = collections.Counter(recognizer.recognize(embedding).index for embedding in found)
        average = found.mean(axis=0)
        for index, other in enumerate(products.names):
            is_near = recognizer.relative_distance(index, average).is_known
            if other != name and (nearest[index] or is_near):
                notes.append(
                    f"{name} and {other} look alike: {nearest[index]} of {len(found)} good images of {name} "
                    f"are recognized as {other}. Name the product: predict --product NAME"
                )
    return notes
