"""A table of engines of one bundle: AUROC, difference of the maps from the first engine, time."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Callable, Dict, List

from adq_edge.artifacts.bundle import Bundle, open_bundle
from adq_edge.datasets.dataset import read_dataset
from adq_edge.hardware.environment import read_environment
from adq_edge.metrics.agreement import MapComparison, compare_scores
from benchmarks.contenders import Run
from benchmarks.published import publish
from benchmarks.quality import Measured, load_tests, measure
from benchmarks.timing import milliseconds


def compare(
    name: str,
    description: str,
    title: Callable[[Bundle], str],
    engines: Callable[[Bundle, argparse.Namespace], Dict[str, Run]],
    rounds: int,
) -> None:
    """Read the command line, measure engines and publish the table.

    Args:
        name: name of the published table.
        description: description of the script.
        title: returns the title of the table.
        engines: makes the engines by name, the float engine first.
        rounds: default number of interleaved rounds.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", required=True, type=Path)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--samples", type=int, default=64, help="calibration images")
    parser.add_argument("--limit", type=int, help="maximum number of test images; all by default")
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    bundle = open_bundle(options.bundle)
    runs = engines(bundle, options)
    tests = load_tests(read_dataset(options.data), bundle.manifest.image_size, options.limit)
    found = {engine: measure(run, tests) for engine, run in runs.items()}
    ms = milliseconds(runs, tests[0].image, options.rounds)
    lines = [_row(engine, found, ms) for engine in found]
    publish(
        name,
        f"{title(bundle)}; {len(tests)} test images, {options.samples} calibration images, "
        f"{options.threads} threads",
        _headings(next(iter(found.values()))),
        lines,
        {"options": bundle.manifest.options, "rows": lines, "milliseconds": ms},
        read_environment(),
    )


def _headings(reference: Measured) -> List[str]:
    """Return the headings of the table."""
    ends = ["pixel AUROC", "map SNR dB", "score bias", "p50 ms", "ratio"]
    return ["engine", "image AUROC", *reference.categories, *ends]


def _row(name: str, found: Dict[str, Measured], ms: Dict[str, float]) -> List[str]:
    """Return the table row of an engine; the first of `found` is the float engine."""
    measured, first = found[name], next(iter(found))
    reference = found[first]
    maps = MapComparison()
    for expected, actual in zip(reference.maps, measured.maps):
        maps.update(expected, actual)
    snr, bias = maps.compute().snr_db, compare_scores(reference.scores, measured.scores).relative_bias
    areas = [measured.image_auroc, *measured.categories.values(), measured.pixel_auroc]
    return [
        name,
        *("-" if area is None else f"{area:.4f}" for area in areas),
        "-" if snr is None else f"{snr:.1f}",
        "-" if bias is None else f"{100 * bias:+.1f} %",
        f"{ms[name]:.1f}",
        f"{ms[name] / ms[first]:.2f}",
    ]
