"""`adq-edge import`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Dict, List, Optional, Sequence, Tuple

import typer

from adq_edge.cli import options
from adq_edge.cli.completion import complete_paths
from adq_edge.cli.options import LAYOUTS
from adq_edge.cli.output import Output
from adq_edge.core.errors import ForeignModelError
from adq_edge.core.text import number_of

if TYPE_CHECKING:
    from adq_edge.artifacts.bundle import Bundle
    from adq_edge.onnx_import.inspection import Inspection

_THREE = "R,G,B"


def import_model(
    model: Path = typer.Argument(
        ...,
        metavar="MODEL",
        autocompletion=complete_paths("FOREIGN"),
        help="ONNX file, or folder that anomalib or another tool exported to.",
    ),
    output: Optional[Path] = typer.Option(
        None, "--output", "-o", metavar=options.FOLDER, help="Bundle folder. Default: bundles/NAME."
    ),
    inspect: bool = typer.Option(
        False, "--inspect", help="Show what is recognized and what INT8 would take; write nothing."
    ),
    data: Optional[Path] = typer.Option(
        None,
        metavar=options.FOLDER,
        help="Dataset for the comparison of map and score with the original model. With it, import also "
        "prints by how much adq-edge's resizing changes the score. Default: drawn images.",
    ),
    data_layout: options.DataLayout = None,
    image_size: Optional[str] = typer.Option(
        None,
        metavar="PIXELS|HEIGHTxWIDTH",
        help="Size of the image, for models that take any size. Default: the size that the model resizes to.",
    ),
    input_: Optional[List[str]] = typer.Option(
        None,
        "--input",
        metavar="NAME[=VALUE,...]",
        help="Input for images, if several could take them; may be repeated. With values, separated by "
        "commas: another input, which becomes a constant. Default: the only one.",
    ),
    layout: Optional[str] = typer.Option(
        None,
        **options.choices("nchw", "nhwc"),
        help="Order of the input's axes; the folders of --data are named by --data-layout. "
        "Default: by its channels.",
    ),
    channel_order: Optional[str] = typer.Option(
        None, **options.choices("rgb", "bgr"), help="Order of the input's channels. Default: rgb."
    ),
    mean: Optional[str] = typer.Option(
        None,
        metavar=_THREE,
        help="Mean of pixels 0..1, such as 0.485,0.456,0.406. Default: as recognized.",
    ),
    std: Optional[str] = typer.Option(
        None,
        metavar=_THREE,
        help="Standard deviation of pixels 0..1, such as 0.229,0.224,0.225. Default: as recognized.",
    ),
    scale: Optional[str] = typer.Option(
        None,
        metavar=options.NUMBER,
        help="Factor of pixels 0..255, in place of --mean and --std, such as 1/255. Default: as recognized.",
    ),
    map_output: Optional[str] = typer.Option(
        None, metavar="NAME", help="Output with the anomaly map. Default: recognized by name and shape."
    ),
    score_output: Optional[str] = typer.Option(
        None,
        metavar="NAME",
        help="Output with the anomaly score. Default: recognized, else the map's maximum.",
    ),
    keep_postprocessing: bool = typer.Option(
        False,
        "--keep-postprocessing/--raw",
        help="Keep normalization to 0..1, clipping and sigmoid at the end, or give raw map and score.",
    ),
) -> Output:
    """Convert an ONNX model of another tool to a bundle.

    The outputs are compared with those of the original model, run by ONNX Runtime.
    """
    from adq_edge.onnx_import.import_model import import_model as run
    from adq_edge.onnx_import.inspection import inspect_model
    from adq_edge.onnx_import.options import ImportOptions

    if layout is not None and layout.lower() in LAYOUTS:
        raise ForeignModelError(
            f"--layout is {layout!r}; here it is the order of the input's axes, nchw or nhwc",
            fix=f"Name the layout of the folders of --data with --data-layout {layout}",
        )
    name, constants = _inputs(input_ or ())
    chosen = ImportOptions(
        input=name,
        constants=constants,
        layout=layout,
        channel_order=channel_order,
        image_size=parse_size(image_size),
        scale=_number("--scale", scale),
        mean=_three("--mean", mean),
        std=_three("--std", std),
        map_output=map_output,
        score_output=score_output,
        keep_postprocessing=keep_postprocessing,
    )
    if inspect:
        return inspection_output(inspect_model(model, options=chosen))
    return imported_output(run(model, output, data=data, options=chosen))


def imported_output(bundle: Bundle) -> Output:
    """Return what is shown of an imported model."""
    from adq_edge.datasets.layouts.registry import layout_arguments
    from adq_edge.report.tables.imported import recognized_lines

    manifest, parity, found = bundle.manifest, bundle.manifest.parity, bundle.manifest.imported
    assert found is not None
    lines = [
        f"{bundle.path}: {manifest.arch} from {manifest.origin}",
        *(f"{name}: {text}" for name, text in recognized_lines(found)),
        f"parity on {number_of(parity.images, 'image')} ({parity.source}): largest difference of the map "
        f"{parity.map_difference:.2e} of {parity.map_largest:.3g}, of the score "
        f"{parity.score_difference:.2e} of {parity.score_largest or 0:.3g}",
    ]
    if found.resize_difference is not None:
        change = f"{found.resize_difference:.2%} (median of the images)"
        lines.append(f"adq-edge's resizing changes the score by {change}")
    return Output(manifest, lines=lines, next_step=("build", bundle.path, "--int8", *layout_arguments()))


def inspection_output(found: Inspection) -> Output:
    """Return the tables of what is recognized in a model."""
    from adq_edge.report.tables.imported import inspection_table

    step = None if found.int8 is None else ("import", found.path)
    return Output(found, tables=[inspection_table(found)], next_step=step)


def _inputs(given: Sequence[str]) -> Tuple[Optional[str], Dict[str, Tuple[float, ...]]]:
    """Return the name of the image input, if it is given, and the values of further inputs."""
    names: List[str] = []
    constants: Dict[str, Tuple[float, ...]] = {}
    for text in given:
        name, equals, values = text.rpartition("=")
        if not equals:
            names.append(text)
            continue
        numbers = tuple(_number(f"--input {name}", part.strip()) or 0.0 for part in values.split(","))
        constants[name] = numbers
    if len(names) > 1:
        raise ForeignModelError(
            f"--input names {len(names)} inputs for images: {', '.join(names)}",
            fix="Give one, and NAME=VALUE for the others",
        )
    return (names[0] if names else None), constants


def parse_size(text: Optional[str]) -> Optional[Tuple[int, int]]:
    """Return (height, width) of "256" or "256x320"."""
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isdecimal() and part.isascii() for part in parts):
        raise ForeignModelError(f"--image-size is {text!r}", fix="Give pixels, such as 256 or 256x320")
    return int(parts[0]), int(parts[-1])


def _number(option: str, text: Optional[str]) -> Optional[float]:
    """Return a number, or a fraction such as "1/255"."""
    if text is None:
        return None
    numerator, slash, denominator = text.partition("/")
    try:
        return float(numerator) / (float(denominator) if slash else 1.0)
    except (ValueError, ZeroDivisionError):
        raise ForeignModelError(f"{option} is {text!r}", fix="Give a number, such as 1/255") from None


def _three(option: str, text: Optional[str]) -> Optional[Tuple[float, float, float]]:
    """Return three numbers separated by commas; one number stands for three."""
    if text is None:
        return None
    numbers: List[float] = [_number(option, part.strip()) or 0.0 for part in text.split(",")]
    if len(numbers) == 1:
        numbers *= 3
    if len(numbers) != 3:
        raise ForeignModelError(f"{option} is {text!r}", fix="Give three numbers separated by commas")
    return numbers[0], numbers[1], numbers[2]
