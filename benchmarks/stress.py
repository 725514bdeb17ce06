"""What changes of the line cost INT8 beside FP32: a table from the result files of `adq-edge stress`.

    adq-edge stress ENGINE --data DIR -o RESULT      # for each engine, with its FP32 in the same folder
    python -m benchmarks.stress RESULT [RESULT ...] [--name stress]

The excess is the image AUROC that INT8 loses more than FP32: of the products' scores, and of the engine's own
scores.
Writes benchmarks/published/NAME.json and .md.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
from pathlib import Path, PurePath
from typing import List

from adq_edge.evaluation.stress_result import (
    LARGEST_AUROC_LOSS,
    StressCurve,
    StressPoint,
    StressResult,
    lost_auroc,
)
from adq_edge.report.tables.stress import describe_limits
from benchmarks.published import publish

_LIMIT = 0.005


def name_of(result: StressResult) -> str:
    """Return the name of a result's engine."""
    return PurePath(result.engine.engine.name).stem


def row(curve: StressCurve, point: StressPoint, result: StressResult) -> List[str]:
    """Return the cells of one severity of one engine."""
    assert point.reference is not None
    excess = [
        next(one.loss for one in result.excess_losses(of_engine) if one.curve is curve and one.point is point)
        for of_engine in (False, True)
    ]
    rates = [f"{100 * (one.false_reject_rate or 0.0):.1f}" for one in (point.engine, point.reference)]
    return [f"{point.engine.image_auroc:.4f}", *(f"{loss:+.4f}" for loss in excess), " / ".join(rates)]


def losses(result: StressResult, of_engine: bool, is_usable: bool) -> List[float]:
    """Return the excess losses; with `is_usable`, only where FP32 loses little."""
    assert result.reference is not None
    found = []
    for one in result.excess_losses(of_engine):
        lost = lost_auroc(result.reference.unchanged, one.point.reference)
        if not is_usable or (lost is not None and lost <= LARGEST_AUROC_LOSS):
            found.append(one.loss)
    return found


def unchanged(result: StressResult) -> List[str]:
    """Return the cells of the images as they are."""
    assert result.reference is not None
    sides = [result.engine.unchanged, result.reference.unchanged]
    rates = [f"{100 * (one.false_reject_rate or 0.0):.1f}" for one in sides]
    others = [f"FP32 {area:.4f}" for area in (sides[1].image_auroc, sides[1].engine_auroc)]
    return [f"{sides[0].image_auroc:.4f}", *others, " / ".join(rates)]


def main() -> None:
    """Read the results and publish the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", nargs="+", type=Path)
    parser.add_argument("--name", default="stress")
    options = parser.parse_args()
    results = [StressResult.read(path) for path in options.results]
    headings = ["change"]
    for result in results:
        columns = ("AUROC", "excess", "excess, own score", "false rejects INT8 / FP32 %")
        headings += [f"{name_of(result)}: {columns[0]}", *columns[1:]]
    rows = [["unchanged", *(cell for result in results for cell in unchanged(result))]]
    for curves in zip(*(result.curves for result in results)):
        for points in zip(*(curve.points for curve in curves)):
            cells = [row(*found) for found in zip(curves, points, results)]
            title = f"{curves[0].title} {points[0].amount:g} {curves[0].unit}"
            rows.append([title, *(cell for one in cells for cell in one)])
    for name, is_usable, summary in (
        ("largest excess", False, max),
        (f"largest excess where FP32 loses {LARGEST_AUROC_LOSS:g} or less", True, max),
        ("mean excess", False, statistics.fmean),
    ):
        found = [
            [f"{summary(losses(one, side, is_usable)):+.4f}" for side in (False, True)] for one in results
        ]
        rows.append([f"**{name}** (limit {_LIMIT})", *(cell for pair in found for cell in ("", *pair, ""))])
    first = results[0]
    publish(
        options.name,
        f"Changes of the line, INT8 beside FP32: {first.good} good and {first.defective} defective images",
        headings,
        rows,
        {
            "limits": {name_of(one): list(describe_limits(one)) for one in results},
            "unchanged": {name_of(one): dataclasses.asdict(one.engine.unchanged) for one in results},
            "unchanged_fp32": {
                name_of(one): dataclasses.asdict(one.reference.unchanged) for one in results if one.reference
            },
            "curves": {name_of(one): [dataclasses.asdict(curve) for curve in one.curves] for one in results},
        },
        first.environment,
    )


if __name__ == "__main__":
    main()
