"""Tables made from a result file of `compare`."""

from __future__ import annotations

from typing import Optional, Tuple

from rich.table import Table

from adq_edge.core.console import decibels
from adq_edge.evaluation.compare import ComparedEngine, Comparison
from adq_edge.metrics.agreement import Auroc, Flips
from adq_edge.report.console.common import number, titled_table


def agreement_table(comparison: Comparison) -> Table:
    """Show how far the scores, maps and decisions of two engines agree."""
    table = titled_table("agreement of B with A", "measure")
    table.add_column("value", justify="right")
    scores, maps = comparison.scores, comparison.maps
    bias = scores.relative_bias
    table.add_row("images", str(len(comparison.images)))
    table.add_row("score difference, largest", f"{scores.largest_difference:.4g}")
    table.add_row("score difference, mean", f"{scores.mean_difference:.4g}")
    table.add_row("score bias, median", "-" if bias is None else f"{100 * bias:+.2f} %")
    table.add_row("score rank correlation (Spearman)", number(scores.spearman))
    table.add_section()
    table.add_row("map difference, largest pixel", f"{maps.largest_difference:.4g}")
    table.add_row("map difference, mean", f"{maps.mean_difference:.4g}")
    table.add_row("map SNR, all images", decibels(maps.snr_db))
    table.add_row("map SNR, median image", decibels(maps.median_snr_db))
    table.add_section()
    table.add_row("threshold of A", _threshold(comparison.engine_a))
    table.add_row("threshold of B", _threshold(comparison.engine_b))
    table.add_row("decisions that flip, own thresholds", _flips(comparison.flips))
    table.add_row("decisions that flip, A's threshold for both", _flips(comparison.flips_at_a))
    sides = (("A", comparison.engine_a), ("B", comparison.engine_b))
    table.caption = "\n".join(
        f"{letter}: {side.engine.name}, {side.precision}, {side.runtime}" for letter, side in sides
    )
    return table


def auroc_table(comparison: Comparison) -> Table:
    """Show both engines' AUROC per category and how far B's is from A's."""
    table = titled_table(f"AUROC on {comparison.data}", "category")
    for heading in (
        "images",
        "defective",
        *("image A", "image B", "B - A"),
        *("pixel A", "pixel B", "B - A"),
    ):
        table.add_column(heading, justify="right")
    for category in comparison.categories:
        table.add_row(
            category.name,
            str(category.images),
            str(category.anomalous),
            *_auroc(category.image_auroc),
            *_auroc(category.pixel_auroc),
        )
    table.add_section()
    table.add_row(
        "mean",
        str(len(comparison.images)),
        str(sum(category.anomalous for category in comparison.categories)),
        *_auroc(comparison.image_auroc),
        *_auroc(comparison.pixel_auroc),
    )
    return table


def _auroc(value: Auroc) -> Tuple[str, str, str]:
    difference = "-" if value.difference is None else f"{value.difference:+.4f}"
    return number(value.a), number(value.b), difference


def _threshold(side: ComparedEngine) -> str:
    if side.threshold is None:
        return "- (no anomalous image)"
    origin = "stored by eval" if side.threshold_stored else "F1-max over these images"
    return f"{side.threshold.score:.4g} ({origin})"


def _flips(flips: Optional[Flips]) -> str:
    if flips is None:
        return "-"
    return f"{flips.count} ({flips.mistakes} now wrong, {flips.count - flips.mistakes} now right)"
