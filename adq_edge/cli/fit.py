"""`adq-edge fit`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence, Tuple, Union

import typer

from adq_edge.cli import options
from adq_edge.cli.output import Output
from adq_edge.core.errors import AdqError
from adq_edge.core.quantities import parse_share
from adq_edge.core.text import command_line

if TYPE_CHECKING:
    from adq_edge.decision.fit import Fit

DIFFERENT = 1
_WITH_CHECK = ("--product", "--false-rejects", "--runtime", "--threads")
_LONGEST_LIST = 20


def fit(
    engine: options.Engine = None,
    data: Optional[Path] = typer.Option(
        None,
        metavar=options.FOLDER,
        help="Dataset folder; the normal training images of each category are the good images of a product. "
        "Default: the dataset of the training.",
    ),
    category: options.Categories = None,
    layout: options.Layout = None,
    product: Optional[str] = typer.Option(
        None,
        metavar="NAME",
        help="Learn one product of this name, from --good. Default: the products of --data.",
    ),
    good: Optional[List[Path]] = typer.Option(
        None,
        metavar=options.FOLDER,
        help="Folder of good images of --product; may be repeated. Default: --data.",
    ),
    clean: bool = typer.Option(
        False, "--clean", help="Leave out good images that look defective, and list them."
    ),
    false_rejects: options.FalseRejects = None,
    remove: Optional[List[str]] = typer.Option(
        None, metavar="NAME", help="Remove this product; may be repeated. Default: none is removed."
    ),
    check: Optional[Path] = typer.Option(
        None,
        metavar=options.FOLDER,
        help="Learn nothing: compare new good images with those that the products were learned from, of "
        "--product or of a dataset. Default: no check.",
    ),
    list_: bool = typer.Option(False, "--list", help="List the products and learn nothing."),
    runtime: options.Runtime = None,
    threads: options.Threads = None,
) -> Output:
    """Learn products from good images, for a verdict per product.

    'predict' then recognizes the product on each image, and rejects at most the given share of its good
    parts. No defective image is needed. The products are stored beside the engine, in a file that belongs to
    it. Other products of this file stay as they are.

    --false-rejects alone changes the stored rate and learns nothing.

    Exit code: 0, or 1 if --check finds a difference.
    """
    from adq_edge.decision import fit as fitting

    rate = None if false_rejects is None else parse_share(false_rejects, "--false-rejects")
    learning = {
        "--data": data,
        "--category": category,
        "--product": product,
        "--good": good,
        "--clean": clean,
        "--runtime": runtime,
        "--threads": threads,
    }
    alone = {"--list": list_, "--remove": remove, "--check": check}
    _check_options(alone, {**learning, "--false-rejects": rate is not None})
    if check is not None:
        return _check(engine, check, product, false_rejects=rate, runtime=runtime, threads=threads)
    if list_:
        return _show(fitting.list_products(engine))
    if remove:
        return _show(fitting.remove_products(engine, remove))
    learns = any(value for name, value in learning.items() if name != "--threads")
    if rate is not None and not learns and fitting.has_products(engine):
        return _show(fitting.change_rate(engine, rate))
    if (product is None) != (not good):
        given, missing = ("--good", "--product NAME") if product is None else ("--product", "--good DIR")
        raise AdqError(f"{given} needs {missing}", fix="Use: adq-edge fit --product NAME --good DIR")
    if good and (data or category):
        other = "--data" if data else "--category"
        raise AdqError(f"--good and {other} exclude each other", fix="Give one of them")
    return _show(
        fitting.fit(
            engine,
            data,
            good=None if product is None else {product: list(good or ())},
            products=category or None,
            false_rejects=rate,
            clean=clean,
            runtime=runtime,
            threads=threads,
        )
    )


def _check_options(alone: Dict[str, Any], others: Dict[str, Any]) -> None:
    """Raise an AdqError if an option that learns nothing is given with another one."""
    given = [name for name, value in {**alone, **others}.items() if value]
    for name in given if given and given[0] in alone else ():
        if name != given[0] and not (given[0] == "--check" and name in _WITH_CHECK):
            raise AdqError(f"{given[0]} and {name} exclude each other", fix="Give one of them")


def _check(engine: Optional[Path], data: Path, product: Optional[str], **values: Any) -> Output:
    from adq_edge.decision.check import check_exchangeability
    from adq_edge.report.tables.checks import check_table

    result = check_exchangeability(engine, data, product, **values)
    step: Union[str, Tuple[object, ...]] = ("predict", result.engine, data)
    if result.has_difference:
        again = command_line("fit", result.engine, "--product", "NAME", "--good", "DIR")
        step = f"learn such products again, with images like the new ones: {again}"
    exit_code = DIFFERENT if result.has_difference else 0
    return Output(result, [check_table(result)], next_step=step, exit_code=exit_code)


def _show(fit: Fit) -> Output:
    from adq_edge.report.tables.products import products_table

    names = fit.products.names
    lines = [f"note: {note}" for note in (*fit.notes, *_suspicious(fit))]
    step = _judge(fit) if names else _learn(fit)
    return Output(_document(fit), [products_table(fit)], lines, step)


def _judge(fit: Fit) -> Union[str, Tuple[object, ...]]:
    """Return the command that judges the test images beside those that were learned from, if there are any.

    Products that were learned now go first.
    """
    learned = sorted(fit.products.products, key=lambda product: product.name not in fit.fitted)
    sources = [(product.name, Path(source)) for product in learned for source in product.sources]
    folders = (folder for name, source in sources for folder in _test_folders(source, name))
    for folder in folders:
        if folder.is_dir() and not any(_is_above(folder, source) for _, source in sources):
            return "predict", fit.engine, folder
    return f"judge other images than those: {command_line('predict', fit.engine, 'IMAGE_OR_FOLDER')}"


def _test_folders(source: Path, product: str) -> List[Path]:
    """Return where test images may lie: below a dataset, or beside its folder `train`."""
    beside = [folder.with_name("test") for folder in (source, *source.parents) if folder.name == "train"]
    return [source / product / "test", source / "test", *beside]


def _is_above(folder: Path, source: Path) -> bool:
    """Return True if a folder is that of good images, or above it."""
    return folder == source or folder in source.parents


def _learn(fit: Fit) -> str:
    return f"learn a product: {command_line('fit', fit.engine, '--product', 'NAME', '--good', 'DIR')}"


def _suspicious(fit: Fit) -> List[str]:
    """Return the good images that were left out now, and those that a person should look at."""
    found = []
    for product in fit.products.products:
        if product.suspicious and product.name in fit.fitted:
            found.append(f"{product.name}: left out, look defective: {_listed(product.suspicious)}")
        if product.name in fit.doubtful:
            found.append(f"{product.name}: kept, look at these first: {_listed(fit.doubtful[product.name])}")
    return found


def _listed(files: Sequence[str]) -> str:
    shown = ", ".join(files[:_LONGEST_LIST])
    more = len(files) - _LONGEST_LIST
    return f"{shown} and {more} more (all with --json)" if more > 0 else shown


def _document(fit: Fit) -> Dict[str, Any]:
    """Return the products without the numbers that only decisions need."""
    from adq_edge.decision.similarity import find_similar
    from adq_edge.report.tables.products import describe_threshold, describe_way, threshold_of

    rate = fit.products.false_rejects
    similar = find_similar(fit.products)
    products = [
        {
            "name": one.name,
            "images": one.images,
            "sources": list(one.sources),
            "score": describe_way(one),
            "threshold": threshold_of(one, rate),
            "promise": describe_threshold(one, rate),
            "looks_like": similar.get(one.name),
            "suspicious": list(one.suspicious),
            "doubtful": list(fit.doubtful.get(one.name, ())),
        }
        for one in fit.products.products
    ]
    return {
        "schema": "adq-edge/fit",
        "version": 1,
        "file": fit.path,
        "engine": fit.engine,
        "runtime": fit.products.runtime,
        "false_rejects": rate,
        "fitted": list(fit.fitted),
        "products": products,
        "notes": list(fit.notes),
    }
