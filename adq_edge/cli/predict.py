"""`adq-edge predict`."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import TYPE_CHECKING, List, Optional

import typer

from adq_edge.cli import options
from adq_edge.cli.completion import complete_engine_then_files
from adq_edge.core.quantities import parse_area, parse_share
from adq_edge.core.text import command_line, number_of

if TYPE_CHECKING:
    from adq_edge.decision.inspector import Inspector
    from adq_edge.evaluation.prediction import Prediction
    from adq_edge.runtimes.base import Engine

NOT_ALL_JUDGED = 1
FAILED_IMAGES = 3


class FailOn(str, enum.Enum):
    """The verdicts that `predict` reports by its exit code."""

    DEFECTIVE = "defective"
    UNKNOWN = "unknown"
    ANY = "any"

    def fails(self, prediction: Prediction) -> bool:
        """Return True if an image has such a verdict."""
        found = {
            FailOn.DEFECTIVE: bool(prediction.anomalous),
            FailOn.UNKNOWN: prediction.verdict == "unknown product",
        }
        return any(found.values()) if self is FailOn.ANY else found[self]


def predict(
    paths: List[Path] = typer.Argument(
        ...,
        metavar="[ENGINE] IMAGE_OR_FOLDER",
        autocompletion=complete_engine_then_files,
        help="Engine file, then images or folders of images; folders are read with all folders below. "
        "Default engine: the newest in engines/.",
    ),
    output: Path = typer.Option(
        Path("predictions"),
        "--output",
        "-o",
        metavar=options.FOLDER,
        help="Folder for the heat maps; no file in it is overwritten.",
    ),
    heat_maps: bool = typer.Option(True, "--heat-maps/--no-heat-maps", help="Write heat-map overlays."),
    product: Optional[str] = typer.Option(
        None, metavar="NAME", help="Product on all images. Default: each image's product is recognized."
    ),
    product_from_folder: bool = typer.Option(
        False,
        "--product-from-folder",
        help="Take the product from the nearest folder above each image that has the name of a product.",
    ),
    false_rejects: options.FalseRejects = None,
    min_area: Optional[str] = typer.Option(
        None,
        metavar=options.PIXELS,
        help="Smallest area of a region, in pixels of the image or as a percentage of it (1%). A part "
        "without a region of this size is not defective. Default: 0.",
    ),
    fail_on: Optional[FailOn] = typer.Option(
        None,
        help="Exit with code 3 if an image is defective, of an unknown product, or either. "
        "Default: such images do not change the exit code.",
    ),
    runtime: options.Runtime = None,
    threads: options.Threads = None,
    trust: options.Trust = False,
) -> None:
    """Judge images: one line of JSON and one heat map each.

    Verdicts of an engine with products (see 'fit'): "good", "defective", "unknown product" and "cannot
    judge". Verdicts of another engine, by the threshold that 'eval' stored: "good", "anomalous" and null.
    An image without a verdict has an error; it does not count as good.

    Exit code: 0 if every image was judged, 1 if some were not, 2 if nothing could start. With --fail-on,
    3 if all were judged and one has such a verdict.
    """
    from adq_edge.artifacts import workspace
    from adq_edge.core.console import console
    from adq_edge.core.json_lines import print_json_line
    from adq_edge.evaluation.image_inputs import distinct_files
    from adq_edge.evaluation.predict import DecisionOptions
    from adq_edge.evaluation.predict import predict as run
    from adq_edge.evaluation.predict_arguments import split_arguments
    from adq_edge.runtimes.registry import load_engine

    rate = None if false_rejects is None else parse_share(false_rejects, "--false-rejects")
    pixels, share = (0.0, 0.0) if min_area is None else parse_area(min_area, "--min-area")
    engine, named = split_arguments(paths)
    images, repeated = distinct_files(named)
    if engine is None:
        engine = workspace.latest_engine()
        console.print(f"engine: {engine}", highlight=False, markup=False, soft_wrap=True)
    errors: List[str] = []
    count = failed = 0
    decisions = DecisionOptions(rate, pixels, share, product, product_from_folder)
    with load_engine(engine, runtime=runtime, threads=threads, trust=trust) as loaded:
        inspector = decisions.inspector(loaded)
        predictions = run(
            inspector or loaded,
            images,
            output=output if heat_maps else None,
            product_from_folder=product_from_folder,
        )
        _print_notes(loaded, inspector, repeated)
        for prediction in predictions:
            print_json_line(prediction.fields())
            count += 1
            errors += [] if prediction.error is None else [prediction.error]
            failed += fail_on is not None and fail_on.fails(prediction)
    if errors:
        missed = f"{len(errors)} of {number_of(count, 'image')} not judged"
        typer.echo(f"adq-edge: {missed}. {errors[0]}", err=True)
        raise typer.Exit(NOT_ALL_JUDGED)
    if failed:
        typer.echo(f"adq-edge: {failed} of {number_of(count, 'image')} failed (--fail-on)", err=True)
        raise typer.Exit(FAILED_IMAGES)


def _print_notes(engine: Engine, inspector: Optional[Inspector], repeated: int) -> None:
    """Print how to get a verdict per product, which thresholds are estimates, and the repeated images."""
    from adq_edge.core.console import console

    learn = command_line("fit", engine.path, "--data", "DIR")
    missing = f"the engine has no products. For a verdict per product, learn them from good images: {learn}"
    again = [f"{number_of(repeated, 'image')} named more than once, judged once"] if repeated else []
    for note in [*([missing] if inspector is None else inspector.notes), *again]:
        console.print(f"note: {note}", soft_wrap=True)
