"""Selects the charts of a report and their data; `report/svg` draws them."""

# ARCHITECTURE.md, section "Decisions", explains why charts are hand-written SVG.

from __future__ import annotations

from typing import Callable, Dict, Hashable, Iterator, List, Optional, Sequence, Tuple

from adq_edge.benchmark.records import Latency, Throughput
from adq_edge.core.options import Precision
from adq_edge.core.text import decibels, number_of
from adq_edge.evaluation.analysis import Analysis
from adq_edge.evaluation.decision_quality import ProductQuality
from adq_edge.evaluation.evaluate import Evaluation
from adq_edge.evaluation.stress_result import Performance, StressCurve, StressedEngine, StressResult
from adq_edge.hardware.telemetry.recording import Recording, Series
from adq_edge.report.labels import distinguish, engine_details, label_entries, shorten_labels
from adq_edge.report.merge import data_key
from adq_edge.report.model import Device, Entry, Model
from adq_edge.report.phrasing import caution_words, precision_name, significant
from adq_edge.report.svg.bubbles import Bubble, bubble_chart
from adq_edge.report.svg.curves import Curve, curve_chart
from adq_edge.report.svg.elements import Chart
from adq_edge.report.svg.rows import Range, Stack, Strip, distribution_chart, range_chart, stack_chart
from adq_edge.report.tables.analysis import map_error
from adq_edge.report.tables.bench import STAGES
from adq_edge.report.tables.estimate import group_modes
from adq_edge.report.tables.quality import file_name
from adq_edge.roofline.estimate import ModelEstimate

_PRECISIONS = {precision.value for precision in Precision}
_MOST_SERIES = 6
_MOST_LAYERS = 8

_Points = Tuple[str, List[Tuple[float, float]]]
"""A remark and the points of a curve."""


def bubble_charts(devices: Sequence[Device]) -> Iterator[Chart]:
    """Yield quality against latency, a chart for each dataset, because AUROCs of different images differ."""
    groups: Dict[Hashable, List[Tuple[Evaluation, Entry, Latency, float]]] = {}
    for entry in (entry for device in devices for entry in device.entries):
        quality, latency, auroc = entry.quality, entry.latency, entry.image_auroc
        if quality is not None and latency is not None and auroc is not None:
            groups.setdefault(data_key(quality), []).append((quality, entry, latency, auroc))
    for members in groups.values():
        quality = members[0][0]
        images = sum(category.images for category in quality.categories)
        labels = label_entries([entry for _, entry, _, _ in members])
        bubbles = [
            Bubble(
                name=label,
                precision=precision_name(entry.engine.precision),
                color=_color(entry),
                latency_ms=latency.p50_ms,
                auroc=auroc,
                size_mb=entry.engine.engine_mb,
                quotable=entry.quotable,
            )
            for label, (_, entry, latency, auroc) in zip(labels, members)
        ]
        yield bubble_chart(f"{file_name(quality.data)} ({number_of(images, 'image')})", bubbles)


def cost_charts(evaluations: Sequence[Evaluation]) -> Iterator[Chart]:
    """Yield missed defects over false rejects at every threshold, of the products of each engine."""
    judged = [one for one in evaluations if one.decisions is not None]
    details = [engine_details(one.engine.name, one.precision, one.runtime, data=one.data) for one in judged]
    for evaluation, engine in zip(judged, shorten_labels(distinguish(details))):
        assert evaluation.decisions is not None
        products = evaluation.decisions.products
        shown = [one for one in products if _has_curve(one)][:_MOST_SERIES]
        names = distinguish([(one.name, one.category) for one in shown])
        curves = []
        for number, (name, one) in enumerate(zip(names, shown)):
            good, defective = one.errors.false_rejects.total, one.errors.missed_defects.total
            points = [
                (100 * point.false_rejects / good, 100 * point.missed_defects / defective)
                for point in one.cost_curve
            ]
            curves.append(Curve(name, f"part{number}", number, points))
        if curves:
            left_out = len(products) - len(shown)
            more = f", the first {len(shown)} of {len(products)} products" if left_out else ""
            yield curve_chart(
                f"Thresholds of {engine}{more}", "false rejects, %", "missed defects, %", curves
            )


def _has_curve(product: ProductQuality) -> bool:
    totals = product.errors.false_rejects.total, product.errors.missed_defects.total
    return len(product.cost_curve) > 1 and all(totals)


def _named_entries(device: Device) -> Iterator[Tuple[str, Entry]]:
    """Yield each engine of a device with a name that no other has."""
    return zip(label_entries(device.entries), device.entries)


def latency_charts(devices: Sequence[Device]) -> Iterator[Chart]:
    """Yield the distribution of latency on each device."""
    for device in devices:
        strips = [
            Strip(name, _color(entry), entry.latency, caution_words(entry.flags))
            for name, entry in _named_entries(device)
            if entry.latency is not None
        ]
        if strips:
            yield distribution_chart(device.name, strips)


def stage_charts(devices: Sequence[Device]) -> Iterator[Chart]:
    """Yield the stages from an encoded image to its anomaly map, on each device."""
    names = [column.name for column, _ in STAGES]
    for device in devices:
        stacks = []
        for name, entry in _named_entries(device):
            stages = entry.engine.end_to_end
            if stages is not None:
                total = f"in all {significant(stages.total.p50_ms)} ms"
                stacks.append(Stack(name, [read(stages) for _, read in STAGES], total))
        if stacks:
            yield stack_chart(f"Stages on {device.name}", "ms, p50 of each stage", names, stacks)


def memory_charts(devices: Sequence[Device]) -> Iterator[Chart]:
    """Yield the parts of the memory of each engine's process, on each device."""
    names = ("Python and runtime", "model", "arena at batch 1", "larger batches")
    for device in devices:
        stacks = []
        for name, entry in _named_entries(device):
            memory = entry.engine.memory
            parts = [memory.rss_before_load_mb, memory.model_mb, memory.arena_mb]
            parts.append(max(memory.peak_rss_mb - sum(parts), 0.0))
            gpu = "" if memory.device_mb is None else f", GPU {significant(memory.device_mb)}"
            total = f"peak {significant(memory.peak_rss_mb)}{gpu} MB"
            stacks.append(Stack(name, parts, total))
        yield stack_chart(f"Memory on {device.name}", "MB of the engine's process", names, stacks)


def throughput_charts(devices: Sequence[Device]) -> Iterator[Chart]:
    """Yield throughput over batch sizes, and over streams where they vary, for each model."""
    for device in devices:
        for model in device.models:
            for name, across_name, points_of in (
                ("Throughput", "images a call", _batch_curve),
                ("Parallel calls", "calls at a time", _stream_curve),
            ):
                title = f"{name}: {model.name} on {device.name}"
                curves = _curves(model, points_of)
                if curves:
                    yield curve_chart(title, across_name, "images a second", curves, steps=True)


def _curves(model: Model, points_of: Callable[[Sequence[Throughput]], Optional[_Points]]) -> List[Curve]:
    curves = []
    for number, (name, entry) in enumerate(zip(label_entries(model.entries), model.entries)):
        found = points_of(entry.engine.offline)
        if found is not None:
            curves.append(Curve(f"{name}, {found[0]}", _color(entry), number, found[1]))
    return curves


def _batch_curve(points: Sequence[Throughput]) -> Optional[_Points]:
    """Return throughput over batch sizes with the fewest streams."""
    if not points:
        return None
    streams = min(point.streams for point in points)
    found = sorted((point.batch, point.images_per_second) for point in points if point.streams == streams)
    return ("one call at a time" if streams == 1 else f"{streams} calls at a time"), [*found]


def _stream_curve(points: Sequence[Throughput]) -> Optional[_Points]:
    """Return throughput over streams at the batch size with most streams; None if they do not vary."""
    batches = [point.batch for point in points]
    batch = max(batches, key=batches.count, default=0)
    found = sorted((point.streams, point.images_per_second) for point in points if point.batch == batch)
    return (f"{batch} a call", [*found]) if len(found) > 1 else None


def recording_charts(devices: Sequence[Device]) -> Iterator[Chart]:
    """Yield power, temperatures and clocks over time, as far as they were recorded, for each engine."""
    for device in devices:
        for name, entry in _named_entries(device):
            recording = entry.engine.recording
            if recording is not None and len(recording.seconds) > 1:  # a submission has no samples
                yield from _recording(f"{name} on {device.name}", recording)


def _recording(title: str, recording: Recording) -> Iterator[Chart]:
    energy = recording.energy
    level = None
    if energy is not None and energy.idle_w is not None:
        level = (f"{energy.rail} when idle: {significant(energy.idle_w)} W", energy.idle_w)
    for name, unit, series, line in (
        ("Power", "W", recording.power, level),
        ("Temperature", "°C", recording.temperatures, None),
        ("Clocks", "MHz", recording.clocks, None),
    ):
        shown = _largest(series)
        if shown:
            left_out = f", the highest {len(shown)} of {len(series)}" if len(shown) < len(series) else ""
            curves = [
                Curve(item.name, f"part{number}", number, list(zip(recording.seconds, item.values)))
                for number, item in enumerate(shown)
            ]
            yield curve_chart(f"{name}: {title}{left_out}", "seconds", unit, curves, level=line)


def _largest(series: Sequence[Series]) -> List[Series]:
    """Return the series with the highest means; those without a reading are left out."""
    means = []
    for item in series:
        known = [value for value in item.values if value is not None]
        if known:
            means.append((sum(known) / len(known), item))
    return [item for _, item in sorted(means, key=lambda pair: -pair[0])[:_MOST_SERIES]]


def estimate_charts(estimates: Sequence[ModelEstimate]) -> Iterator[Chart]:
    """Yield the roofline estimates of each model, one bar for each precision and group of power modes."""
    for item in estimates:
        ranges = [
            Range(
                name=f"{precision_name(engine.precision.value)}, {modes}",
                bound=estimate.lower_bound_ms,
                low=estimate.range_ms[0],
                high=estimate.range_ms[1],
                measured=engine.study_ms if number == 0 else None,
            )
            for engine in item.engines
            for number, (modes, estimate) in enumerate(group_modes(engine.modes))
        ]
        yield range_chart(f"Estimate: {item.name} ({item.arch}) on {item.board}", ranges)


def analysis_charts(analyses: Sequence[Analysis]) -> Iterator[Chart]:
    """Yield the layers of each model whose quantization changes the anomaly map most."""
    for one in analyses:
        quantized = [layer for layer in one.layers if layer.quantized]
        worst = sorted(quantized, key=lambda layer: -map_error(layer.map_snr_db))[:_MOST_LAYERS]
        items = [("all layers", one.map_snr_db), *((layer.layer, layer.map_snr_db) for layer in worst)]
        stacks = [
            Stack(name, [map_error(snr)], f"{significant(map_error(snr))} %, {decibels(snr)}")
            for name, snr in items
        ]
        if worst:
            count = f"the worst {len(worst)} of {number_of(len(quantized), 'layer')}"
            title = f"Error of INT8 in {file_name(one.bundle)} on {one.target}: {count}"
            yield stack_chart(title, "% of the map", ["map error"], stacks)


def stress_charts(results: Sequence[StressResult]) -> Iterator[Chart]:
    """Yield the image AUROC of each engine and its reference over the amount of each change."""
    for result in results:
        for curve in result.curves:
            sides: List[Tuple[StressedEngine, List[Optional[Performance]]]]
            sides = [(result.engine, [point.engine for point in curve.points])]
            if result.reference is not None:
                sides.append((result.reference, [point.reference for point in curve.points]))
            curves = [
                Curve(precision_name(side.precision), color, shape, _areas(curve, side.unchanged, points))
                for shape, (color, (side, points)) in enumerate(zip(("part0", "part1"), sides))
            ]
            if any(one.known for one in curves):
                title = f"{file_name(result.engine.engine.name)}: {curve.title}"
                yield curve_chart(title, curve.unit, "image AUROC", [one for one in curves if one.known])


def _areas(
    curve: StressCurve, unchanged: Performance, points: Sequence[Optional[Performance]]
) -> List[Tuple[float, Optional[float]]]:
    """Return the image AUROC at each amount, the unchanged images first."""
    amounts = [curve.unchanged, *(point.amount for point in curve.points)]
    return [
        (amount, None if found is None else found.image_auroc)
        for amount, found in zip(amounts, (unchanged, *points))
    ]


def _color(entry: Entry) -> str:
    return entry.engine.precision if entry.engine.precision in _PRECISIONS else "other"
