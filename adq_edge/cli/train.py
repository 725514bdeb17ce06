"""`adq-edge train`."""

from __future__ import annotations

from pathlib import Path
from typing import List, Optional

import typer

from adq_edge.cli.common import needs_training_half, verb


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(name="train")(train)


@verb
def train(
    data: Path = typer.Option(..., "--data", help="Dataset in MVTec AD layout."),
    arch: str = typer.Option("stfpm", "--arch", help="Method."),
    category: Optional[List[str]] = typer.Option(
        None, "--category", help="Train on this one only (repeatable)."
    ),
    teacher_weights: Optional[str] = typer.Option(
        None,
        "--teacher-weights",
        help="ResNet-18 file, or 'demo'; torchvision's ImageNet weights by default.",
    ),
    output: Optional[Path] = typer.Option(
        None, "--output", "-o", help="Checkpoint; checkpoints/ by default."
    ),
    epochs: Optional[int] = typer.Option(None, "--epochs", help="The study's number by default."),
    batch_size: Optional[int] = typer.Option(None, "--batch-size", help="The study's number by default."),
    learning_rate: Optional[float] = typer.Option(
        None, "--learning-rate", help="The study's number by default."
    ),
    image_size: int = typer.Option(256, "--image-size", help="Height and width of the input in pixels."),
    seed: int = typer.Option(0, "--seed", help="Same seed, same machine: same numbers."),
    restart: bool = typer.Option(False, "--restart", help="Start over instead of continuing the checkpoint."),
) -> None:
    """Train one unified model on the normal images of all categories."""
    with needs_training_half():
        from adq_edge.training.loop import train as run

    result = run(
        data,
        output=output,
        arch=arch,
        categories=category,
        teacher_weights=teacher_weights,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        image_size=(image_size, image_size),
        seed=seed,
        resume=not restart,
    )
    typer.echo(
        f"{result.checkpoint}: {result.epochs} epochs of {result.images} images, loss {result.loss:.4f}, "
        f"{result.seconds:.0f} s"
    )
