"""Products of an engine that is built: kept with the same engine file, fitted again on request."""

from __future__ import annotations

from pathlib import Path
from typing import Optional, Tuple, Union

from adq_edge.artifacts.bundle import Manifest
from adq_edge.artifacts.engine_file import EngineFile
from adq_edge.artifacts.products import Products, find_products, listed, products_path
from adq_edge.artifacts.sidecar import Sidecar
from adq_edge.core.errors import AdqError, BuildError, DataError, EngineError
from adq_edge.core.files import check_writable
from adq_edge.core.runtimes import find_runtime
from adq_edge.core.text import command_line
from adq_edge.datasets.dataset import known_categories, read_dataset
from adq_edge.datasets.layouts.registry import prefer_layout
from adq_edge.decision.fit import fit_new_engine
from adq_edge.runtimes.registry import open_engine


def check_good_images(data: Union[str, Path], manifest: Manifest) -> None:
    """Check that a dataset has good images of a model's categories, before an engine is built.

    Raises:
        DataError: no such folder, or it is not a dataset.
    """
    try:
        with prefer_layout(manifest.layout):
            read_dataset(data, known_categories(Path(data), manifest.categories) or None)
    except DataError as error:
        fix = None if error.fix is None else error.fix.replace("--data", "--fit")
        raise DataError(error.what, where=error.where, fix=fix) from error


def check_products_file(engine: Path) -> None:
    """Check that the products of an engine can be written, and that none are lost by it.

    Raises:
        EngineError: the file is damaged.
        StorageError: it cannot be written, or is a file of another kind.
    """
    check_writable(products_path(engine), Products.kind())
    try:
        find_products(engine)
    except EngineError as error:
        raise EngineError(error.what, where=error.where, fix="Restore it, or delete it") from error


def fit_staged(
    staged: Path, engine: Path, sidecar: Sidecar, data: Union[str, Path], threads: Optional[int]
) -> Tuple[Tuple[str, ...], Optional[BuildError]]:
    """Learn the products of an engine that is not at its place yet; write them with it.

    Args:
        staged: the file with the content of the engine.
        engine: its place.
        sidecar: its sidecar.
        data: dataset folder with good images.
        threads: CPU threads; all by default.

    Returns:
        What the user should know, one sentence each, and the error to raise when the engine is at its place.
    """
    try:
        file = EngineFile(staged, sidecar.engine_sha256)
        file.path = engine  # for messages, and as the place of the products
        with open_engine(file, sidecar, find_runtime(sidecar.runtime), threads) as loaded:
            fitted = fit_new_engine(loaded, data)
    except AdqError as error:
        fix = f"Then fit them: {_command(engine, data)}"
        remedy = "" if error.fix is None else f"{error.fix}. "
        where = "" if error.where in (None, str(engine)) else f"{error.where}: "
        what = f"is built, but its products are not fitted: {where}{error.what}"
        return (), BuildError(what, where=engine, fix=remedy + fix)
    return (f"its products are fitted: {listed(fitted.products.names)}", *fitted.notes), None


def describe_products(engine: Path, sidecar: Sidecar) -> Tuple[str, ...]:
    """Return what has become of the products of an engine that was built again: at most one sentence."""
    try:
        found = find_products(engine)
    except AdqError as error:
        return (f"its products cannot be used ({error.what}). Fit them again: {_command(engine)}",)
    if found is None or not found.products:
        return ()
    names = listed(found.names)
    if found.engine_sha256 != sidecar.engine_sha256:
        why = "were fitted on another engine file"
    elif found.runtime != sidecar.runtime:
        why = f"were fitted with {found.runtime}"
    else:
        return (f"the engine is the same as before and keeps its products: {names}",)
    command = _command(engine, _dataset_of(found))
    return (f"its products ({names}) {why} and are refused. Fit them again: {command}",)


def _dataset_of(products: Products) -> Optional[str]:
    """Return the dataset that all products were learned from; None if they come from several folders."""
    folders = {folder for product in products.products for folder in product.sources}
    if len(folders) != 1:
        return None
    (folder,) = folders
    has_all = all(Path(folder, name).is_dir() for name in products.names)
    return folder if has_all else None


def _command(engine: Path, data: Optional[Union[str, Path]] = None) -> str:
    return command_line("fit", engine, "--data", "DIR" if data is None else data)
