"""`adq-edge synthetic`."""

from __future__ import annotations

from pathlib import Path

import typer


def synthetic(
    root: Path = typer.Argument(..., help="Folder to write; it must be missing or empty."),
    train: int = typer.Option(14, min=1, help="Normal training images per category."),
    good: int = typer.Option(6, min=1, help="Normal test images per category."),
    defective: int = typer.Option(12, min=0, help="Defective test images per category."),
    size: int = typer.Option(256, min=32, help="Height and width in pixels."),
    seed: int = typer.Option(0, help="Random seed; another seed draws other images of the same products."),
) -> None:
    """Draw a dataset of 15 categories with defects and exact masks, in MVTec AD layout."""
    from adq_edge.datasets.synthetic import write_synthetic

    dataset = write_synthetic(root, train=train, good=good, defective=defective, size=size, seed=seed)
    images = sum(len(category.train) + len(category.test) for category in dataset.categories)
    typer.echo(f"{dataset.root}: {images} images in {len(dataset.categories)} categories")
