"""The tables of what `bench` measured."""

from __future__ import annotations

from typing import Iterator, List, Optional, Sequence, Tuple

from adq_edge.benchmark.records import EndToEnd, Interval, Latency
from adq_edge.report.model import Device, Entry
from adq_edge.report.phrasing import (
    cautions,
    engine_words,
    failed_words,
    in_words,
    offline_words,
    reservations,
    yes_or_no,
)
from adq_edge.report.table import ENGINE, Cell, Column, Sheet, sheet, text


def headline_sheet(devices: Sequence[Device]) -> Sheet:
    """Show the figures that matter, one engine a row."""
    columns = (
        *ENGINE,
        *(text("method"), text("runtime")),
        *(Column("p50", "ms", 2), Column("p90", "ms", 2), Column("latency ratio", digits=3)),
        *(Column("image AUROC", digits=4), Column("AUROC change", digits=4)),
        *(Column("throughput", "images/s", 1), Column("engine", "MB", 1)),
        *(Column("peak RSS", "MB", 0), Column("energy", "J/image", 3)),
        *(text("in words", long=True), text("caution")),
    )
    rows = [
        (
            *engine_words(device, entry),
            *(model.arch, f"{entry.engine.runtime} {entry.engine.runtime_version}"),
            *_medians(entry.latency),
            None if entry.speed is None else entry.speed.ratio,
            None if entry.quality is None else entry.quality.image_auroc,
            entry.auroc_change,
            _images_per_second(entry),
            entry.engine.engine_mb,
            entry.engine.memory.peak_rss_batch_1_mb,
            _joules(entry),
            in_words(entry),
            cautions(reservations(entry)),
        )
        for device in devices
        for model in device.models
        for entry in model.entries
    ]
    note = (
        "p50 and p90: SingleStream, batch 1, the engine call only; ratio: of latencies, to the FP32 engine "
        "of the same model; AUROC: of the very engine file that was timed"
    )
    return sheet("headline", "Quality and speed of the same engines", columns, rows, note)


def latency_sheet(devices: Sequence[Device]) -> Sheet:
    """Show SingleStream's statistics."""
    columns = (
        *ENGINE,
        Column("queries"),
        *(Column(name, "ms", 2) for name in ("mean", "p50", "p50 low", "p50 high")),
        *(Column(name, "ms", 2) for name in ("p90", "p90 low", "p90 high", "p95")),
        *(Column(name, "ms", 2) for name in ("p99", "p99 low", "p99 high", "min", "max")),
        *(Column("timed", "s", 1), Column("rounds"), Column("warm-up", "s", 1)),
        *(Column("harness", "µs", 2), text("measured"), text("caution")),
    )
    rows = []
    for device, entry in _entries(devices):
        stream, report = entry.engine.single_stream, entry.measurement.report
        if stream is not None:
            rows.append(
                (
                    *engine_words(device, entry),
                    *_statistics(stream.latency),
                    *(stream.timed_seconds, stream.rounds, stream.warm_up_seconds, stream.harness_us),
                    *(report.created, cautions(entry.flags)),
                )
            )
    note = (
        "No outlier is removed. Low and high: 95 % confidence interval, from whole rounds resampled (in "
        "files of earlier releases as if queries did not depend on each other). The warm-up is left out of "
        "all figures. Harness: what clock and loop add to a query, contained in its duration."
    )
    return sheet("latency", "SingleStream latency", columns, rows, note)


def stages_sheet(devices: Sequence[Device]) -> Sheet:
    """Show the median of each stage from an encoded image to its anomaly map."""
    columns = (
        *ENGINE,
        text("image"),
        *(Column(name, "ms", 2) for name, _ in stages_of(None)),
        *(Column(name, "ms", 2) for name in ("total p50", "total p90", "overhead")),
    )
    rows = []
    for device, entry in _entries(devices):
        stages, settings = entry.engine.end_to_end, entry.measurement.report.settings
        if stages is not None:
            height, width = settings.image_pixels
            medians = [None if stage is None else stage.p50_ms for _, stage in stages_of(stages)]
            total = (stages.total.p50_ms, stages.total.p90_ms, stages.overhead_ms)
            rows.append(
                (*engine_words(device, entry), f"{settings.image}, {width}x{height}", *medians, *total)
            )
    note = (
        "Medians; those of the stages need not add up to that of the total. Overhead: preprocess, engine "
        "call and postprocess over a bare engine call."
    )
    return sheet("stages", "End to end, from an encoded image to its anomaly map", columns, rows, note)


def stages_of(stages: Optional[EndToEnd]) -> List[Tuple[str, Optional[Latency]]]:
    """Return the stages in the order of time, with their names."""
    names = (
        *("decode", "preprocess", "host to device", "inference"),
        *("device to host", "postprocess"),
    )
    if stages is None:
        return [(name, None) for name in names]
    return [(name, getattr(stages, name.replace(" ", "_"))) for name in names]


def throughput_sheet(devices: Sequence[Device]) -> Sheet:
    """Show Offline's throughput for each batch size and number of streams."""
    columns = (
        *ENGINE,
        *(Column("batch"), Column("streams"), Column("throughput", "images/s", 1)),
        *(Column("images"), Column("timed", "s", 1), text("", long=True)),
    )
    rows: List[Tuple[Cell, ...]] = []
    for device, entry in _entries(devices):
        names = engine_words(device, entry)
        for point in entry.engine.offline:
            figures = (point.batch, point.streams, point.images_per_second, point.images, point.timed_seconds)
            rows.append((*names, *figures, offline_words(entry.engine, point)))
        failed = failed_words(entry.engine)
        if failed is not None:
            rows.append((*names, None, None, None, None, None, failed))
    return sheet("throughput", "Offline throughput", columns, rows, "Engine calls only.")


def memory_sheet(devices: Sequence[Device]) -> Sheet:
    """Show what each engine takes of the memory."""
    names = (
        *("before load", "model", "arena", "peak RSS, batch 1", "peak RSS"),
        *("system rise", "Offline included", "device", "swap"),
    )
    rows = []
    for device, entry in _entries(devices):
        memory = entry.engine.memory
        figures = (
            *(memory.rss_before_load_mb, memory.model_mb, memory.arena_mb),
            *(memory.peak_rss_batch_1_mb, memory.peak_rss_mb),
            *(memory.system_rise_mb, memory.system_rise_offline_mb, memory.device_mb, memory.swap_mb),
        )
        rows.append((*engine_words(device, entry), *figures, entry.engine.engine_mb, entry.engine.load_ms))
    columns = (
        *ENGINE,
        *(Column(name, "MB", 1) for name in names),
        *(Column("engine file", "MB", 1), Column("load", "ms", 0)),
    )
    note = (
        "Of the engine's own process; MB are 10^6 bytes. Model: what loading added; arena: what running at "
        "batch 1 added. System rise: how much less memory the whole machine had while the engine was loaded "
        "and warmed up, and with its turns of Offline included; on a Jetson CPU and GPU share it. Device: "
        "GPU memory as the runtime tells it."
    )
    return sheet("memory", "Memory", columns, rows, note)


def energy_sheet(devices: Sequence[Device]) -> Sheet:
    """Show power, energy and temperature of the boards that can tell."""
    columns = (
        *ENGINE,
        *(text("rail"), Column("idle", "W", 2), Column("mean", "W", 2)),
        *(Column("energy", "J/image", 4), Column("above idle", "J/image", 4)),
        *(Column("hottest", "°C", 1), text("throttled"), text("read from")),
        *(Column("readings", "Hz", 1), Column("cost", "% of a core", 2)),
    )
    rows = []
    for device, entry in _entries(devices):
        recording = entry.engine.recording
        if recording is None:
            continue
        energy = recording.energy
        energies: Tuple[Cell, ...] = ("not known", None, None, None, None)
        if energy is not None:
            joules = (energy.joules_per_image, energy.joules_per_image_above_idle)
            energies = (energy.rail, energy.idle_w, energy.mean_w, *joules)
        rows.append(
            (
                *engine_words(device, entry),
                *(*energies, recording.hottest, yes_or_no(recording.throttled)),
                *(recording.source, recording.hertz, recording.cost_percent),
            )
        )
    note = (
        "Energy per image at batch 1, idle power included; above idle: without what the idle board takes. "
        "Hottest and throttled: in all the time that the engine was timed, Offline included. "
        "Curves over time run straight through the turns of other engines."
    )
    return sheet("energy", "Power, energy and temperature", columns, rows, note)


def _entries(devices: Sequence[Device]) -> Iterator[Tuple[Device, Entry]]:
    return ((device, entry) for device in devices for entry in device.entries)


def _medians(latency: Optional[Latency]) -> Tuple[Optional[float], Optional[float]]:
    return (None, None) if latency is None else (latency.p50_ms, latency.p90_ms)


def _statistics(latency: Latency) -> Tuple[Cell, ...]:
    return (
        *(latency.count, latency.mean_ms),
        *(latency.p50_ms, *_ends(latency.p50_interval_ms)),
        *(latency.p90_ms, *_ends(latency.p90_interval_ms), latency.p95_ms),
        *(latency.p99_ms, *_ends(latency.p99_interval_ms), latency.min_ms, latency.max_ms),
    )


def _ends(interval: Optional[Interval]) -> Tuple[Optional[float], Optional[float]]:
    return (None, None) if interval is None else (interval.low, interval.high)


def _images_per_second(entry: Entry) -> Optional[float]:
    best = entry.engine.best_offline
    return None if best is None else best.images_per_second


def _joules(entry: Entry) -> Optional[float]:
    recording = entry.engine.recording
    return None if recording is None or recording.energy is None else recording.energy.joules_per_image
