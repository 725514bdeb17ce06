"""Tables made from result files."""

from __future__ import annotations

import dataclasses
from typing import Optional, Sequence

from rich.table import Table

from adq_edge.benchmark.results import BenchmarkReport, EngineBenchmark, Latency
from adq_edge.evaluation import Evaluation


@dataclasses.dataclass(frozen=True)
class SummaryRow:
    """Quality and speed of one engine, both measured on the very same file."""

    evaluation: Evaluation
    benchmark: EngineBenchmark


def number(value: Optional[float], digits: int = 4) -> str:
    """Show a number, or a dash for what was not measured."""
    return "-" if value is None else f"{value:.{digits}f}"


def decibels(value: Optional[float]) -> str:
    """Show a signal-to-noise ratio; None is that of two identical signals."""
    return "identical" if value is None else f"{value:.1f} dB"


def quality_table(evaluation: Evaluation) -> Table:
    """Show one engine's quality per category."""
    table = _table(f"{evaluation.engine.name} on {evaluation.data}", "category")
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


def latency_table(report: BenchmarkReport) -> Table:
    """Show SingleStream latency, Offline throughput, size and memory of the engines of a run."""
    table = _table(f"{report.environment.cpu}, {_threads(report)}", "engine")
    headings = (
        "mean ms", "p50 ms", "p90 ms", "p95 ms", "p99 ms", "min ms", "max ms", "ratio",
        "images/s", "at batch", "engine MB", "load ms", "peak RSS MB",
    )  # fmt: skip
    for heading in headings:
        table.add_column(heading, justify="right")
    for engine in report.engines:
        latency, best = engine.single_stream.latency, engine.best_offline
        table.add_row(
            engine.name,
            *(number(value, 2) for value in _statistics(latency)),
            "1" if engine.comparison is None else number(engine.comparison.latency_ratio, 3),
            number(best.images_per_second, 1),
            str(best.batch),
            number(engine.engine_mb, 1),
            number(engine.load_ms, 0),
            number(engine.memory.peak_rss_batch_1_mb, 0),
        )
    table.caption = _caption(
        report, "latency: SingleStream, batch 1, engine call only; ratio: of medians to the first"
    )
    return table


def stages_table(report: BenchmarkReport) -> Table:
    """Show the median of each stage from an encoded image to its anomaly map."""
    height, width = report.settings.image_pixels
    table = _table(f"end to end from {report.settings.image} ({width}x{height}), p50 ms", "engine")
    for heading in (
        "decode",
        "preprocess",
        "inference",
        "postprocess",
        "end to end",
        "overhead over the engine call",
    ):
        table.add_column(heading, justify="right")
    for engine in report.engines:
        stages = engine.end_to_end
        parts = (stages.decode, stages.preprocess, stages.inference, stages.postprocess, stages.total)
        table.add_row(engine.name, *(number(part.p50_ms, 2) for part in parts), number(stages.overhead_ms, 2))
    table.caption = _caption(
        report, "overhead: preprocess, inference and postprocess over a bare engine call"
    )
    return table


def summary_table(rows: Sequence[SummaryRow], caveat: Optional[str]) -> Table:
    """Show what quantization cost and what it bought, one engine a row."""
    table = _table("quality and speed of the same engines", "precision")
    headings = ("image AUROC", "pixel AUROC", "AUPRO", "p50 ms", "p90 ms", "images/s", "MB", "peak RSS MB")
    for heading in headings:
        table.add_column(heading, justify="right")
    for row in rows:
        quality, speed = row.evaluation, row.benchmark
        table.add_row(
            quality.precision,
            number(quality.image_auroc),
            number(quality.pixel_auroc),
            number(quality.aupro),
            number(speed.single_stream.latency.p50_ms, 2),
            number(speed.single_stream.latency.p90_ms, 2),
            number(speed.best_offline.images_per_second, 1),
            number(speed.engine_mb, 1),
            number(speed.memory.peak_rss_batch_1_mb, 0),
        )
    table.caption = caveat
    return table


def _table(title: str, first: str) -> Table:
    table = Table(title=title, title_justify="left", caption_justify="left")
    table.add_column(first, no_wrap=True)
    return table


def _statistics(latency: Latency) -> Sequence[float]:
    return (
        latency.mean_ms,
        latency.p50_ms,
        latency.p90_ms,
        latency.p95_ms,
        latency.p99_ms,
        latency.min_ms,
        latency.max_ms,
    )


def _threads(report: BenchmarkReport) -> str:
    threads = report.settings.threads
    return f"{report.environment.logical_cores if threads is None else threads} threads"


def _caption(report: BenchmarkReport, text: str) -> str:
    return text if report.caveat is None else f"{text}\n{report.caveat}"
