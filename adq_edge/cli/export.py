"""`adq-edge export`."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import typer

from adq_edge.cli.common import needs_training_half, verb


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(name="export")(export)


@verb
def export(
    checkpoint: Optional[Path] = typer.Argument(
        None, help="Checkpoint, or folder with a file a network; the newest in checkpoints/ by default."
    ),
    output: Optional[Path] = typer.Option(
        None, "--output", "-o", help="Bundle folder; bundles/NAME by default."
    ),
    teacher_weights: Optional[str] = typer.Option(
        None, "--teacher-weights", help="For checkpoints without a teacher: its ResNet file, or 'demo'."
    ),
    data: Optional[Path] = typer.Option(
        None,
        "--data",
        help="Dataset for the parity check, and to measure statistics that a checkpoint lacks.",
    ),
    image_size: Optional[int] = typer.Option(
        None, "--image-size", help="Input size in pixels, for checkpoints that do not hold it (256)."
    ),
    stride: Optional[int] = typer.Option(
        None, "--stride", help="Uninformed Students: pixels between descriptors, 1, 2 or 4; more is faster."
    ),
) -> None:
    """Export a checkpoint to ONNX and check it against the original.

    Reads adq-edge's own checkpoints, those of the methods' published codes, and anomalib's.
    """
    with needs_training_half():
        from adq_edge.onnx_export.export import export as run

    size = None if image_size is None else (image_size, image_size)
    bundle = run(
        checkpoint, output, teacher_weights=teacher_weights, data=data, image_size=size, stride=stride
    )
    manifest, parity = bundle.manifest, bundle.manifest.parity
    typer.echo(
        f"{bundle.path}: {manifest.arch} from {manifest.origin} checkpoint, {manifest.fusion} score fusion"
    )
    typer.echo(
        f"parity on {parity.images} images ({parity.source}): largest difference of the map "
        f"{parity.map_difference:.2e}, of the score {parity.score_difference:.2e} "
        f"(largest map value {parity.map_largest:.2e})"
    )
