"""Ablation: what each idea for INT8 quality gains on the anomaly map, and its build time.

    python -m benchmarks.ablation --bundle BUNDLE --data DIR [--samples 300] [--limit N]

Every engine is compared with FP32 on the same test images, for x86 (ONNX Runtime's integer kernels) and for
TensorRT (its Q/DQ graph, emulated in float32). Writes benchmarks/published/ablation.json and .md.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import shutil
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

import numpy as np
import onnx

from adq_edge.artifacts.bundle import Bundle, open_bundle
from adq_edge.calibration.calibrate import EQUALIZATION_IMAGES, calibrate_bundle
from adq_edge.calibration.calibrated_model import ROUNDING_IMAGES, CalibratedModel, calibrate_model
from adq_edge.calibration.sources import IMAGES, SYNTHETIC_DEFECTS, make_source
from adq_edge.core.console import console
from adq_edge.core.files import write_bytes
from adq_edge.core.images.imaging import load_image
from adq_edge.core.options import DEFAULT_CALIBRATOR, Target
from adq_edge.datasets.dataset import Sample, read_dataset
from adq_edge.hardware.environment import read_environment
from adq_edge.metrics.agreement import Auroc, MapComparison, compare_auroc, compare_scores, mean_auroc
from adq_edge.metrics.quality import image_auroc
from adq_edge.quantization.equalization import equalize
from adq_edge.quantization.float_model import FloatModel
from adq_edge.quantization.placement import integer_layers
from benchmarks.ideas import (
    FACTORS,
    Ranges,
    Recipe,
    correct_biases,
    equalization_of,
    fit_map_line,
    histograms,
    open_recipe,
    open_session,
    ranges_of,
    rounding_of,
    run,
    search_ranges,
    share_scales,
    square_root,
)
from benchmarks.published import FOLDER, publish

TARGETS = (Target.X86, Target.TENSORRT)
CALIBRATOR = "lp"
CORRECTION_IMAGES = 32
SEARCH_IMAGES = 8
HEADINGS = [
    *("target", "engine", "in the default", "map SNR, dB", "median of images, dB", "score bias"),
    *("image AUROC change", "largest change of a category", "build time of the idea, s"),
]


class Idea(NamedTuple):
    """One row: an idea added to others, and the recipe of its model."""

    label: str
    kept: bool
    seconds: float
    recipe: Recipe


@dataclasses.dataclass(frozen=True)
class Figures:
    """Differences between a quantized model and FP32.

    Attributes:
        target: the arithmetic.
        engine: label of the row.
        in_default: True if `build` uses the idea by default.
        map_snr_db: SNR in dB over all pixels of all images; None if identical.
        median_snr_db: median of the SNR of each image, in dB.
        score_bias: median relative change of the scores.
        auroc_change: change of the mean image AUROC.
        category: the category whose image AUROC changes most; None if nothing changes.
        category_change: change of its image AUROC.
        seconds: time that the idea adds to a build.
    """

    target: str
    engine: str
    in_default: bool
    map_snr_db: Optional[float]
    median_snr_db: Optional[float]
    score_bias: Optional[float]
    auroc_change: Optional[float]
    category: Optional[str]
    category_change: Optional[float]
    seconds: float


class TestSet(NamedTuple):
    """Decoded test images, with the maps and scores of FP32."""

    samples: List[Sample]
    images: List[np.ndarray]
    maps: np.ndarray
    scores: np.ndarray


class Material(NamedTuple):
    """The inputs of the ideas, and the time in seconds that each took."""

    model: FloatModel
    images: List[np.ndarray]
    search_images: List[np.ndarray]
    ranges: Dict[str, Ranges]
    prepared: CalibratedModel
    half_equalized: Recipe
    seconds: Dict[str, float]


def timed(seconds: Dict[str, float], name: str, function: Callable[[], Any]) -> Any:
    """Call a function and store its time in seconds."""
    start = time.perf_counter()
    result = function()
    seconds[name] = time.perf_counter() - start
    return result


def gather(bundle: Bundle, data: Path, samples: int, threads: int) -> Material:
    """Measure the inputs of the ideas."""
    seconds: Dict[str, float] = {}
    size = bundle.manifest.image_size
    source = make_source(IMAGES, data, samples)
    images = list(source.images(size))
    mixed = make_source(f"{IMAGES},{SYNTHETIC_DEFECTS}", data, SEARCH_IMAGES)
    model = FloatModel.load(bundle)
    measured = timed(seconds, "pass", lambda: histograms(model, images, threads))
    ranges = {
        spec: timed(seconds, spec, partial(ranges_of, spec, measured))
        for spec in ("minmax", "mse", CALIBRATOR)
    }
    scales = timed(seconds, "equalization", lambda: equalization_of(model, images, threads))
    calibrate_bundle(bundle, model, [CALIBRATOR], source, threads=threads)
    # The ranges are stored, so this is the time of rounding alone.
    calibrate_again = partial(calibrate_model, bundle, model, CALIBRATOR, source, threads=threads)
    prepared = timed(seconds, "rounding", calibrate_again)
    half = equalize(model, square_root(scales))
    half_ranges = ranges_of(CALIBRATOR, histograms(half, images, threads))
    half_equalized = Recipe(half, half_ranges, rounding_of(half, images, threads))
    return Material(model, images, list(mixed.images(size)), ranges, prepared, half_equalized, seconds)


def kept_ideas(material: Material, target: Target) -> Iterator[Idea]:
    """Yield the steps from plain INT8 to the default, one idea at a time."""
    model, seconds, prepared = material.model, material.seconds, material.prepared
    region = model.region
    for spec, label in (
        ("minmax", "plain: min-max ranges"),
        ("mse", "mse ranges"),
        (CALIBRATOR, "lp ranges"),
    ):
        recipe = Recipe(model, material.ranges[spec], early_float=False)
        time_taken = seconds[spec] + (seconds["pass"] if spec == "minmax" else 0.0)
        yield Idea(label, spec == DEFAULT_CALIBRATOR, time_taken, recipe)
    some_float = len(integer_layers(region, target)) < len(region.operators)
    yield Idea(
        "lp + image's convolutions in float", some_float, 0.0, Recipe(model, material.ranges[CALIBRATOR])
    )
    equalized = Recipe(prepared.float_model, prepared.ranges.tensors)
    kept = bool(prepared.ranges.equalization)
    yield Idea("... + equalization", kept, seconds["equalization"], equalized)
    rounded = dataclasses.replace(equalized, rounding=prepared.rounded_weights)
    yield Idea(
        "... + rounding with compensation = D", bool(prepared.rounded_weights), seconds["rounding"], rounded
    )


def tried_ideas(material: Material, target: Target, threads: int) -> Iterator[Idea]:
    """Yield the ideas that the default (D) does not use, each added to it."""
    prepared, seconds = material.prepared, material.seconds
    default = Recipe(prepared.float_model, prepared.ranges.tensors, prepared.rounded_weights)
    few = material.images[:CORRECTION_IMAGES]
    ideas: List[Tuple[str, Callable[[], Recipe]]] = [
        ("D + bias correction", lambda: correct_biases(default, target, few, threads)),
        ("D + scales shared by teacher and student", lambda: share_scales(default)),
        (
            "D + range search on the anomaly map",
            lambda: search_ranges(default, target, material.search_images, threads),
        ),
        ("D + line through the map's values", lambda: fit_map_line(default, target, few, threads)),
    ]
    if target is Target.TENSORRT:
        ideas.append(("D + skip branches in float", lambda: dataclasses.replace(default, skips_float=True)))
    for label, function in ideas:
        times: Dict[str, float] = {}
        recipe = timed(times, label, function)
        yield Idea(label, False, times[label], recipe)
    yield Idea("D with a weaker equalization", False, seconds["equalization"], material.half_equalized)


def read_test_set(bundle: Bundle, data: Path, limit: Optional[int], threads: int) -> TestSet:
    """Decode the test images, or `limit` evenly spaced ones, and run FP32 on them."""
    samples = [sample for category in read_dataset(data).categories for sample in category.test]
    if limit is not None and limit < len(samples):
        samples = [samples[i] for i in np.linspace(0, len(samples) - 1, limit).astype(int)]
    images = [load_image(sample.path, bundle.manifest.image_size) for sample in samples]
    session = open_session(onnx.load(str(bundle.model)), threads, emulate=False)
    return TestSet(samples, images, *run(session, images, (1.0, 0.0)))


def auroc_by_category(test: TestSet, scores: np.ndarray) -> Dict[str, Auroc]:
    """Compare the image AUROC of each category with that of FP32."""
    compared = {}
    for name in dict.fromkeys(sample.category for sample in test.samples):
        chosen = np.array([sample.category == name for sample in test.samples])
        labels = np.array([sample.is_anomalous for sample in test.samples])[chosen]
        compared[name] = compare_auroc(
            image_auroc(labels, test.scores[chosen]), image_auroc(labels, scores[chosen])
        )
    return compared


def measure(idea: Idea, target: Target, test: TestSet, threads: int) -> Figures:
    """Run the model of an idea on the test images and compare it with FP32."""
    session = open_recipe(idea.recipe, target, threads)
    maps, scores = run(session, test.images, idea.recipe.map_line)
    comparison = MapComparison()
    for expected, found in zip(test.maps, maps):
        comparison.update(expected, found)
    agreement = comparison.compute()
    aurocs = auroc_by_category(test, scores)
    changes = {name: auroc.difference for name, auroc in aurocs.items() if auroc.difference is not None}
    worst = max(changes, key=lambda name: abs(changes[name]), default=None)
    return Figures(
        target=target.value,
        engine=idea.label,
        in_default=idea.kept,
        map_snr_db=agreement.snr_db,
        median_snr_db=agreement.median_snr_db,
        score_bias=compare_scores(test.scores, scores).relative_bias,
        auroc_change=mean_auroc(list(aurocs.values())).difference,
        category=worst if worst is not None and changes[worst] else None,
        category_change=None if worst is None else changes[worst],
        seconds=idea.seconds,
    )


def line_of(figures: Figures) -> List[str]:
    """Return a row of the table."""

    def show(value: Optional[float], form: str, scale: float = 1.0, unit: str = "") -> str:
        return "-" if value is None else format(value * scale, form) + unit

    return [
        figures.target,
        figures.engine,
        "yes" if figures.in_default else "no",
        show(figures.map_snr_db, ".2f"),
        show(figures.median_snr_db, ".2f"),
        show(figures.score_bias, "+.2f", 100.0, " %"),
        show(figures.auroc_change, "+.4f"),
        " ".join([show(figures.category_change, "+.4f"), *([figures.category] if figures.category else [])]),
        show(figures.seconds, ".1f"),
    ]


def explanation(images: int, samples: int) -> str:
    """Return the notes below the table."""
    return f"""
Compared with FP32 on {images} test images, calibrated on {samples} training images. x86 runs ONNX Runtime's
integer kernels; tensorrt is TensorRT's Q/DQ graph (int8, symmetric), emulated in float32. "In the default":
`adq-edge build` uses it by default. Build times are those of the idea alone; the first row includes the pass
over the images, which every row needs.

- plain, mse, lp: every layer in INT8, weights rounded to nearest, no equalization; `lp` is the calibrator.
- image's convolutions in float: the first convolutions and the poolings after them.
- equalization: channels divided by the square root of their largest value on {EQUALIZATION_IMAGES} images.
- rounding with compensation: with second moments of {ROUNDING_IMAGES} images.
- bias correction: the mean error of each output channel of each integer convolution on {CORRECTION_IMAGES}
  images.
- shared scales: matching tensors of teacher and student get the union of their ranges.
- range search: for each tensor the one of {len(FACTORS)} multiples of its range with the smallest error of
  the anomaly map on {SEARCH_IMAGES} images, half of them with synthetic defects.
- line: map and score become a * value + b, fitted by least squares on the maps of {CORRECTION_IMAGES} images.
- skip branches in float: the second input of every addition (TensorRT only; no integer kernel on x86).
- weaker equalization: the fourth root instead of the square root, with its own ranges and rounding.
"""


def parse() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", required=True, type=Path)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--samples", type=int, default=300)
    parser.add_argument("--limit", type=int, help="number of test images, evenly spaced; all by default")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def main() -> None:
    """Measure every idea for every target and publish the table."""
    options = parse()
    table = []
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "bundle"
        shutil.copytree(options.bundle, copy, ignore=shutil.ignore_patterns("ranges"))
        bundle = open_bundle(copy)
        test = read_test_set(bundle, options.data, options.limit, options.threads)
        material = gather(bundle, options.data, options.samples, options.threads)
    for target in TARGETS:
        tried = tried_ideas(material, target, options.threads)
        for idea in itertools.chain(kept_ideas(material, target), tried):
            table.append(measure(idea, target, test, options.threads))
            console.print("  ".join(line_of(table[-1])))
    images, samples = len(test.samples), len(material.images)
    publish(
        "ablation",
        "What each idea for INT8 quality gains: difference of the anomaly map from FP32",
        HEADINGS,
        [line_of(figures) for figures in table],
        {"images": images, "samples": samples, "engines": [dataclasses.asdict(row) for row in table]},
        read_environment(),
    )
    path = FOLDER / "ablation.md"
    write_bytes(path, path.read_bytes() + explanation(images, samples).encode())


if __name__ == "__main__":
    main()
