"""Which charts a report shows, and of what."""

from __future__ import annotations

from typing import Callable, Dict, Hashable, Iterator, List, Optional, Sequence, Tuple

from adq_edge.benchmark.records import Throughput
from adq_edge.core.options import Precision
from adq_edge.hardware.telemetry.recording import Recording, Series
from adq_edge.report.merge import data_key
from adq_edge.report.model import Device, Entry, Model
from adq_edge.report.phrasing import caution_words, precision_name, significant
from adq_edge.report.svg.bars import Range, Stack, range_chart, stack_chart
from adq_edge.report.svg.bubbles import Bubble, bubble_chart
from adq_edge.report.svg.curves import Curve, step_chart, time_chart
from adq_edge.report.svg.distribution import Strip, distribution_chart
from adq_edge.report.svg.elements import Chart
from adq_edge.report.tables.bench import STAGES
from adq_edge.report.tables.estimate import group_modes
from adq_edge.report.tables.quality import file_name
from adq_edge.roofline.estimate import ModelEstimate

_COLOURS = {precision.value: precision.value for precision in Precision}
_MOST_SERIES = 6

_PointsOf = Callable[[Sequence[Throughput]], Optional[Tuple[str, List[Tuple[float, float]]]]]


def bubble_charts(devices: Sequence[Device]) -> Iterator[Chart]:
    """Yield quality against latency, a chart for each dataset: AUROCs of different images say nothing."""
    groups: Dict[Hashable, List[Tuple[Device, Entry]]] = {}
    for device in devices:
        for entry in device.entries:
            if entry.quality is not None and entry.quality.image_auroc is not None and entry.latency:
                groups.setdefault(data_key(entry.quality), []).append((device, entry))
    for members in groups.values():
        quality = members[0][1].quality
        if quality is None:
            continue
        images = sum(category.images for category in quality.categories)
        many = len({device.name for device, _ in members}) > 1
        bubbles = [bubble for device, entry in members for bubble in _bubble(device, entry, many)]
        yield bubble_chart(f"{file_name(quality.data)} ({images} images)", bubbles)


def _bubble(device: Device, entry: Entry, many: bool) -> Iterator[Bubble]:
    quality, latency = entry.quality, entry.latency
    if quality is not None and quality.image_auroc is not None and latency is not None:
        yield Bubble(
            name=f"{entry.engine.name} on {device.name}" if many else entry.engine.name,
            precision=precision_name(entry.engine.precision),
            color=_color(entry),
            latency_ms=latency.p50_ms,
            auroc=quality.image_auroc,
            size_mb=entry.engine.engine_mb,
            quotable=entry.quotable,
        )


def latency_charts(devices: Sequence[Device]) -> Iterator[Chart]:
    """Yield the distribution of latency on each device."""
    for device in devices:
        strips = [
            Strip(entry.engine.name, _color(entry), entry.latency, caution_words(entry.flags))
            for entry in device.entries
            if entry.latency is not None
        ]
        if strips:
            yield distribution_chart(device.name, strips)


def stage_charts(devices: Sequence[Device]) -> Iterator[Chart]:
    """Yield what the way from an encoded image to its map is made of, on each device."""
    names = [column.name for column, _ in STAGES]
    for device in devices:
        stacks = []
        for entry in device.entries:
            stages = entry.engine.end_to_end
            if stages is not None:
                parts = [read(stages) for _, read in STAGES]
                total = f"in all {significant(stages.total.p50_ms)} ms"
                stacks.append(Stack(entry.engine.name, parts, total))
        if stacks:
            yield stack_chart(f"Stages on {device.name}", "ms, p50 of each stage", names, stacks)


def memory_charts(devices: Sequence[Device]) -> Iterator[Chart]:
    """Yield what the memory of each engine's process is made of, on each device."""
    names = ("Python and runtime", "model", "arena at batch 1", "larger batches")
    for device in devices:
        stacks = []
        for entry in device.entries:
            memory = entry.engine.memory
            small = memory.rss_before_load_mb + memory.model_mb + memory.arena_mb
            more = max(memory.peak_rss_mb - small, 0.0)
            parts = (memory.rss_before_load_mb, memory.model_mb, memory.arena_mb, more)
            gpu = "" if memory.device_mb is None else f", GPU {significant(memory.device_mb)}"
            total = f"peak {significant(memory.peak_rss_mb)}{gpu} MB"
            stacks.append(Stack(entry.engine.name, parts, total))
        yield stack_chart(f"Memory on {device.name}", "MB of the engine's process", names, stacks)


def throughput_charts(devices: Sequence[Device]) -> Iterator[Chart]:
    """Yield throughput over batch sizes, and over streams where they vary, for each model."""
    for device in devices:
        for model in device.models:
            title = f"{model.name} on {device.name}"
            batches = _curves(model, _over_batches)
            if batches:
                yield step_chart(f"Throughput: {title}", "images a call", "images a second", batches)
            streams = _curves(model, _over_streams)
            if streams:
                yield step_chart(f"Parallel calls: {title}", "calls at a time", "images a second", streams)


def _curves(model: Model, points_of: _PointsOf) -> List[Curve]:
    curves = []
    for number, entry in enumerate(model.entries):
        found = points_of(entry.engine.offline)
        if found is not None:
            name = f"{entry.engine.name}, {found[0]}"
            curves.append(Curve(name, _color(entry), number, found[1]))
    return curves


def recording_charts(devices: Sequence[Device]) -> Iterator[Chart]:
    """Yield power, temperatures and clocks over time, as far as they were read, for each engine."""
    for device in devices:
        for entry in device.entries:
            recording = entry.engine.recording
            if recording is not None:
                yield from _recording(f"{entry.engine.name} on {device.name}", recording)


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


def _recording(title: str, recording: Recording) -> Iterator[Chart]:
    energy = recording.energy
    level = None
    if energy is not None and energy.idle_w is not None:
        level = (f"{energy.rail} when idle: {significant(energy.idle_w)} W", energy.idle_w)
    kinds = (
        ("Power", "W", recording.power, level),
        ("Temperature", "°C", recording.temperatures, None),
        ("Clocks", "MHz", recording.clocks, None),
    )
    for name, unit, series, line in kinds:
        shown = _largest(series)
        if shown:
            left_out = f", the highest {len(shown)} of {len(series)}" if len(shown) < len(series) else ""
            curves = [
                Curve(item.name, f"part{number}", number, list(zip(recording.seconds, item.values)))
                for number, item in enumerate(shown)
            ]
            yield time_chart(f"{name}: {title}{left_out}", unit, curves, line)


def _largest(series: Sequence[Series]) -> List[Series]:
    """Return the series with the highest means, those without a reading left out."""

    def mean(item: Series) -> float:
        known = [value for value in item.values if value is not None]
        return sum(known) / len(known)

    known = [item for item in series if any(value is not None for value in item.values)]
    return sorted(known, key=mean, reverse=True)[:_MOST_SERIES]


def _over_batches(points: Sequence[Throughput]) -> Optional[Tuple[str, List[Tuple[float, float]]]]:
    """Return throughput over batch sizes with the fewest streams."""
    if not points:
        return None
    streams = min(point.streams for point in points)
    found = sorted((point.batch, point.images_per_second) for point in points if point.streams == streams)
    return ("one call at a time" if streams == 1 else f"{streams} calls at a time"), [*found]


def _over_streams(points: Sequence[Throughput]) -> Optional[Tuple[str, List[Tuple[float, float]]]]:
    """Return throughput over streams at the batch size with the most of them; None if they do not vary."""
    counts: Dict[int, int] = {}
    for point in points:
        counts[point.batch] = counts.get(point.batch, 0) + 1
    if not counts or max(counts.values()) < 2:
        return None
    batch = max(counts, key=lambda size: counts[size])
    found = sorted((point.streams, point.images_per_second) for point in points if point.batch == batch)
    return f"{batch} a call", [*found]


def _color(entry: Entry) -> str:
    return _COLOURS.get(entry.engine.precision, "other")
