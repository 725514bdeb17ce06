"""Tables made from result files."""

from __future__ import annotations

import dataclasses
from typing import Optional, Sequence

from rich.table import Table

from adq_edge.benchmark.records import EngineBenchmark
from adq_edge.evaluation.evaluate import Evaluation


@dataclasses.dataclass(frozen=True)
class SummaryRow:
    """Quality and speed of one engine, both measured on the very same file."""

    evaluation: Evaluation
    benchmark: EngineBenchmark


def number(value: Optional[float], digits: int = 4) -> str:
    """Show a number, or a dash for what was not measured."""
    return "-" if value is None else f"{value:.{digits}f}"


def quality_table(evaluation: Evaluation) -> Table:
    """Show one engine's quality per category."""
    table = titled_table(f"{evaluation.engine.name} on {evaluation.data}", "category")
    for heading in ("images", "defective", "image AUROC", "pixel AUROC", "AUPRO", "F1-max", "threshold"):
        table.add_column(heading, justify="right")
    for quality in evaluation.categories:
        table.add_row(
            quality.name,
            str(quality.images),
            str(quality.anomalous),
            number(quality.image_auroc),
            number(quality.pixel_auroc),
            number(quality.aupro),
            number(quality.f1),
            "-" if quality.threshold is None else f"{quality.threshold:.4g}",
        )
    table.add_section()
    table.add_row(
        "mean",
        str(len(evaluation.scores)),
        str(sum(quality.anomalous for quality in evaluation.categories)),
        number(evaluation.image_auroc),
        number(evaluation.pixel_auroc),
        number(evaluation.aupro),
        number(evaluation.f1),
        "-" if evaluation.threshold is None else f"{evaluation.threshold:.4g}",
    )
    table.caption = (
        "last row: F1-max and threshold over all images together; that threshold is stored with the engine"
    )
    return table


def summary_table(rows: Sequence[SummaryRow], caveat: Optional[str]) -> Table:
    """Show what quantization cost and what it bought, one engine a row."""
    table = titled_table("quality and speed of the same engines", "precision")
    headings = ("image AUROC", "pixel AUROC", "AUPRO", "p50 ms", "p90 ms", "images/s", "MB", "peak RSS MB")
    for heading in headings:
        table.add_column(heading, justify="right")
    for row in rows:
        quality, speed, best = row.evaluation, row.benchmark, row.benchmark.best_offline
        latency = None if speed.single_stream is None else speed.single_stream.latency
        table.add_row(
            quality.precision,
            number(quality.image_auroc),
            number(quality.pixel_auroc),
            number(quality.aupro),
            number(None if latency is None else latency.p50_ms, 2),
            number(None if latency is None else latency.p90_ms, 2),
            number(None if best is None else best.images_per_second, 1),
            number(speed.engine_mb, 1),
            number(speed.memory.peak_rss_batch_1_mb, 0),
        )
    table.caption = caveat
    return table


def titled_table(title: str, first: str) -> Table:
    """Return a table without rows, whose first column names them."""
    table = Table(title=title, title_justify="left", caption_justify="left")
    table.add_column(first, no_wrap=True)
    return table
