"""`adq-edge synthetic`."""

from __future__ import annotations

from pathlib import Path

import typer

from adq_edge.cli import options
from adq_edge.cli.output import Output
from adq_edge.core.text import number_of


def synthetic(
    root: Path = typer.Argument(..., metavar="FOLDER", help="Folder to write; it must be missing or empty."),
    train: int = typer.Option(14, metavar=options.COUNT, min=1, help="Normal training images per category."),
    good: int = typer.Option(6, metavar=options.COUNT, min=1, help="Normal test images per category."),
    defective: int = typer.Option(
        12, metavar=options.COUNT, min=0, help="Defective test images per category."
    ),
    size: int = typer.Option(256, metavar=options.PIXELS, min=64, help="Height and width in pixels."),
    seed: int = typer.Option(
        0, metavar=options.NUMBER, help="Random seed; another seed draws other images of the same products."
    ),
) -> Output:
    """Draw a dataset of 15 categories with defects and masks.

    The folder has the layout of MVTec AD; the masks are exact.
    """
    from adq_edge.datasets.synthetic import write_synthetic

    dataset = write_synthetic(root, train=train, good=good, defective=defective, size=size, seed=seed)
    images = sum(len(category.train) + len(category.test) for category in dataset.categories)
    document = {
        "schema": "adq-edge/synthetic",
        "version": 1,
        "folder": str(dataset.root),
        "images": images,
        "categories": [category.name for category in dataset.categories],
    }
    line = f"{dataset.root}: {number_of(images, 'image')} in {number_of(len(dataset.categories), 'category')}"
    following = ("train", "--data", dataset.root, "--teacher-weights", "demo")
    return Output(document, lines=[line], next_step=following)
