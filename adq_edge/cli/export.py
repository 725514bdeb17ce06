"""`adq-edge export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, List, Optional

import typer

from adq_edge.cli import options
from adq_edge.cli.common import needs_training_half
from adq_edge.cli.completion import complete_paths
from adq_edge.cli.import_model import imported_output
from adq_edge.cli.output import Output
from adq_edge.core.errors import ForeignModelError
from adq_edge.core.methods import IMAGE_SIZE
from adq_edge.core.text import number_of

if TYPE_CHECKING:
    from adq_edge.onnx_export.layer_choice import LayerAuroc


def export(
    checkpoint: Optional[Path] = typer.Argument(
        None,
        metavar="CHECKPOINT",
        autocompletion=complete_paths("CHECKPOINT"),
        help="Checkpoint file, folder with one file per network, or ONNX file of another tool. Default: the "
        "newest in checkpoints/.",
    ),
    output: Optional[Path] = typer.Option(
        None, "--output", "-o", metavar=options.FOLDER, help="Bundle folder. Default: bundles/NAME."
    ),
    teacher_weights: options.TeacherWeights = None,
    data: Optional[Path] = typer.Option(
        None,
        metavar=options.FOLDER,
        help="Dataset for the parity check, and for score statistics that the checkpoint lacks. "
        "Default: the dataset of the training if it exists, else synthetic images.",
    ),
    image_size: Optional[int] = typer.Option(
        None,
        metavar=options.PIXELS,
        help=f"Height and width of the input in pixels, if the checkpoint lacks them. Default: {IMAGE_SIZE}.",
    ),
    stride: Optional[int] = typer.Option(
        None,
        **options.choices("1", "2", "4"),
        help="Distance between the descriptors of uninformed-students in pixels; larger is faster. "
        "Default: that of the checkpoint.",
    ),
    layers: Optional[str] = typer.Option(
        None,
        **options.choices(*options.LAYERS, several=True),
        help="STFPM, PaSTe and Reverse Distillation: layers whose maps are scored, such as layer3; fewer "
        "are faster. With labeled images, the image AUROC of each choice is shown. Default: all of the "
        "checkpoint.",
    ),
) -> Output:
    """Export a checkpoint to a bundle, an ONNX model.

    An ONNX file of another tool is imported as with 'adq-edge import'.

    The outputs are compared with those of the original model. Checkpoints of adq-edge, of anomalib and of the
    published code of each method are read.
    """
    if checkpoint is not None and checkpoint.suffix.lower() == ".onnx":
        unsuited = {"teacher-weights": teacher_weights, "stride": stride, "layers": layers}
        refused = [name for name, value in unsuited.items() if value is not None]
        return _import(checkpoint, refused, output, data, image_size)
    with needs_training_half():
        from adq_edge.onnx_export.export import export as run
    from adq_edge.report.tables.layers import layers_table

    size = None if image_size is None else (image_size, image_size)
    choices: List[LayerAuroc] = []
    bundle = run(
        checkpoint,
        output,
        teacher_weights=teacher_weights,
        data=data,
        image_size=size,
        stride=stride,
        layers=layers,
        show_choices=choices.extend,
    )
    manifest, parity = bundle.manifest, bundle.manifest.parity
    lines = [
        f"{bundle.path}: {manifest.arch} from {manifest.origin} checkpoint, {manifest.fusion} score fusion",
        f"parity on {number_of(parity.images, 'image')} ({parity.source}): largest difference of the map "
        f"{parity.map_difference:.2e}, of the score {parity.score_difference:.2e} "
        f"(largest map value {parity.map_largest:.2e})",
    ]
    if manifest.convention is not None:
        lines.insert(1, manifest.convention)
    if manifest.unfinished is not None:
        lines.append(f"caution: the training is not finished: {manifest.unfinished}")
    tables = [layers_table(choices)] if choices else []
    return Output(manifest, tables=tables, lines=lines, next_step=("build", bundle.path, "--int8"))


def _import(
    model: Path, refused: List[str], output: Optional[Path], data: Optional[Path], image_size: Optional[int]
) -> Output:
    """Import an ONNX model of another tool, and return what is shown.

    Args:
        model: the ONNX file.
        refused: names of given options that are for checkpoints only.
        output: the bundle's folder.
        data: dataset of the comparison.
        image_size: height and width of the image in pixels.
    """
    if refused:
        raise ForeignModelError(f"--{refused[0]} is for checkpoints", where=model, fix="Omit it")
    from adq_edge.onnx_import.import_model import import_model as run
    from adq_edge.onnx_import.options import ImportOptions

    size = None if image_size is None else (image_size, image_size)
    return imported_output(run(model, output, data=data, options=ImportOptions(image_size=size)))
