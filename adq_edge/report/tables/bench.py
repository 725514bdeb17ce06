"""The tables of `bench`, for a report of many runs and for the terminal after one."""

from __future__ import annotations

import dataclasses
from typing import Callable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from adq_edge.benchmark.quotable import find_caveat
from adq_edge.benchmark.records import EndToEnd, Latency, Throughput
from adq_edge.benchmark.results import BenchmarkReport
from adq_edge.core.options import Device, Precision
from adq_edge.core.runtimes import TENSORRT
from adq_edge.core.text import number_of
from adq_edge.report.machines import device_name
from adq_edge.report.model import Entry, entries_of
from adq_edge.report.phrasing import (
    board_settings,
    caution_words,
    offline_failure,
    precision_name,
    throughput_remark,
    yes_or_no,
)
from adq_edge.report.table import Column, Field, Kind, Table, part, prose, tabulate, text


def _ms(name: str) -> Column:
    return Column(name, "ms", ".2f")


def _interval(name: str, terminal: bool = True) -> Column:
    return Column(name, "ms", ".2f", Kind.INTERVAL, terminal)


def _mb(name: str, terminal: bool = True) -> Column:
    return Column(name, "MB", ".1f", terminal=terminal)


def _detail(name: str, unit: str = "", spec: str = "") -> Column:
    return Column(name, unit, spec, terminal=False)


def _median(latency: Optional[Latency]) -> Optional[float]:
    return None if latency is None else latency.p50_ms


def _known(answer: Optional[bool]) -> Optional[str]:
    return None if answer is None else yes_or_no(answer)


ENGINE: Tuple[Field[Entry], ...] = (
    (text("engine"), lambda entry: entry.engine.name),
    (text("device", terminal=False), lambda entry: entry.device),
    (text("precision", terminal=False), lambda entry: precision_name(entry.engine.precision)),
)
"""The columns that identify an engine."""

_PERCENTILES: List[Field[Entry]] = part(
    lambda entry: entry.latency,
    (
        (_ms("p50"), lambda latency: latency.p50_ms),
        (_ms("p90"), lambda latency: latency.p90_ms),
        (_ms("p99"), lambda latency: latency.p99_ms),
    ),
)

_SINGLE_STREAM: List[Field[Entry]] = part(
    lambda entry: entry.engine.single_stream,
    (
        (_interval("p50"), lambda stream: stream.latency.p50_interval_ms),
        (_interval("p90"), lambda stream: stream.latency.p90_interval_ms),
        (_interval("p99", terminal=False), lambda stream: stream.latency.p99_interval_ms),
        (_ms("p95"), lambda stream: stream.latency.p95_ms),
        (_ms("mean"), lambda stream: stream.latency.mean_ms),
        (_ms("min"), lambda stream: stream.latency.min_ms),
        (_ms("max"), lambda stream: stream.latency.max_ms),
        (_detail("queries"), lambda stream: stream.latency.count),
        (_detail("timed", "s", ".1f"), lambda stream: stream.timed_seconds),
        (_detail("rounds"), lambda stream: stream.rounds),
        (_detail("warm-up", "s", ".1f"), lambda stream: stream.warm_up_seconds),
        (_detail("harness", "µs", ".2f"), lambda stream: stream.harness_us),
    ),
)

_RATIO: List[Field[Entry]] = part(
    lambda entry: entry.engine.comparison,
    (
        (Column("ratio", spec=".3f"), lambda comparison: comparison.latency_ratio),
        (Column("ratio", "", ".3f", Kind.INTERVAL), lambda comparison: comparison.latency_ratio_interval),
    ),
)

STAGES: Tuple[Tuple[Column, Callable[[EndToEnd], Optional[float]]], ...] = (
    (_ms("decode"), lambda stages: stages.decode.p50_ms),
    (_ms("preprocess"), lambda stages: stages.preprocess.p50_ms),
    (_ms("host to device"), lambda stages: _median(stages.host_to_device)),
    (_ms("inference"), lambda stages: stages.inference.p50_ms),
    (_ms("device to host"), lambda stages: _median(stages.device_to_host)),
    (_ms("postprocess"), lambda stages: stages.postprocess.p50_ms),
)
"""The median of each stage, in the order in which they run."""

_END_TO_END: List[Field[Entry]] = part(
    lambda entry: entry.engine.end_to_end,
    (
        (_ms("total p50"), lambda stages: stages.total.p50_ms),
        (_ms("total p90"), lambda stages: stages.total.p90_ms),
        *STAGES,
        (_ms("overhead"), lambda stages: stages.overhead_ms),
    ),
)

_MEMORY: List[Field[Entry]] = part(
    lambda entry: entry.engine.memory,
    (
        (_mb("before load", terminal=False), lambda memory: memory.rss_before_load_mb),
        (_mb("model"), lambda memory: memory.model_mb),
        (_mb("arena"), lambda memory: memory.arena_mb),
        (_mb("peak RSS, batch 1"), lambda memory: memory.peak_rss_batch_1_mb),
        (_mb("peak RSS"), lambda memory: memory.peak_rss_mb),
        (_mb("system rise"), lambda memory: memory.system_rise_mb),
        (_mb("Offline included"), lambda memory: memory.system_rise_offline_mb),
        (_mb("device"), lambda memory: memory.device_mb),
        (_mb("swap"), lambda memory: memory.swap_mb),
    ),
)

BUILD: Tuple[Field[Entry], ...] = (
    (Column("build", "s", ".1f"), lambda entry: entry.engine.build_seconds),
    (text("CUDA graph"), lambda entry: _known(entry.engine.cuda_graph)),
    (Column("enqueue", "ms", ".3f"), lambda entry: entry.engine.enqueue_ms),
    (text("wait for GPU", terminal=False), lambda entry: entry.engine.gpu_wait),
)

_ENERGY: List[Field[Entry]] = part(
    lambda entry: entry.energy,
    (
        (text("rail", terminal=False), lambda energy: energy.rail),
        (Column("idle", "W", ".2f"), lambda energy: energy.idle_w),
        (Column("mean", "W", ".2f"), lambda energy: energy.mean_w),
        (Column("energy", "J/image", ".4f"), lambda energy: energy.joules_per_image),
        (Column("above idle", "J/image", ".4f"), lambda energy: energy.joules_per_image_above_idle),
    ),
)

_SENSORS: List[Field[Entry]] = part(
    lambda entry: entry.engine.recording,
    (
        (Column("hottest", "°C", ".1f"), lambda recording: recording.hottest),
        (text("throttled"), lambda recording: _known(recording.throttled)),
        (text("read from", terminal=False), lambda recording: recording.source),
        (_detail("readings", "Hz", ".1f"), lambda recording: recording.hertz),
        (_detail("cost", "% of a core", ".2f"), lambda recording: recording.cost_percent),
    ),
)


def latency_table(entries: Sequence[Entry], extra: Sequence[Field[Entry]] = ()) -> Table:
    """Return the statistics of SingleStream latency, with extra columns after the percentiles."""
    context: Tuple[Field[Entry], ...] = (
        (text("measured", terminal=False), lambda entry: entry.report.created),
        (text("caution", terminal=False), lambda entry: caution_words(entry.flags)),
    )
    return tabulate(
        "SingleStream latency (batch 1, 1 stream)",
        [*ENGINE, *_PERCENTILES, *extra, *_SINGLE_STREAM, *context],
        [entry for entry in entries if entry.engine.single_stream is not None],
        [
            "Engine call only; no outlier is removed; the warm-up is excluded. Intervals: from resampled "
            "whole rounds (in files of earlier releases as if queries were independent). Harness: time that "
            "clock and loop add to a query, included in its duration."
        ],
        key="latency",
    )


def stages_table(entries: Sequence[Entry]) -> Table:
    """Return the median of each stage from an encoded image to its anomaly map."""
    image: Field[Entry] = (text("image", terminal=False), lambda entry: _image(entry.report))
    return tabulate(
        "End to end, from an encoded image to its anomaly map",
        [*ENGINE, *_END_TO_END, image],
        [entry for entry in entries if entry.engine.end_to_end is not None],
        [
            "p50 of each stage; their sum may differ from the p50 of the total. Overhead: preprocess, engine "
            "call and postprocess minus a bare engine call."
        ],
        key="stages",
    )


def _image(report: BenchmarkReport) -> str:
    height, width = report.settings.image_pixels
    return f"{report.settings.image}, {width}x{height}"


class _Load(NamedTuple):
    """An engine at one batch size and number of streams; no throughput where Offline failed at once."""

    entry: Entry
    throughput: Optional[Throughput]


def throughput_table(entries: Sequence[Entry]) -> Table:
    """Return the throughput of Offline for each batch size and number of streams."""
    loads: List[_Load] = []
    rules = []
    for entry in entries:
        loads += [_Load(entry, load) for load in entry.engine.offline]
        if offline_failure(entry.engine) is not None:
            loads.append(_Load(entry, None))
        rules.append(len(loads) - 1)
    engine: List[Field[_Load]] = part(lambda load: load.entry, ENGINE)
    figures: List[Field[_Load]] = part(
        lambda load: load.throughput,
        (
            (Column("batch"), lambda load: load.batch),
            (Column("streams"), lambda load: load.streams),
            (Column("throughput", "images/s", ".1f"), lambda load: load.images_per_second),
            (_detail("images"), lambda load: load.images),
            (_detail("timed", "s", ".1f"), lambda load: load.timed_seconds),
        ),
    )
    fields = [*engine, *figures, (prose(""), _remark)]
    note = "Engine calls only; streams share the CPU's threads."
    return tabulate("Offline throughput", fields, loads, [note], rules=rules, key="throughput")


def _remark(load: _Load) -> Optional[str]:
    engine = load.entry.engine
    return offline_failure(engine) if load.throughput is None else throughput_remark(engine, load.throughput)


def memory_table(entries: Sequence[Entry], extra: Sequence[Field[Entry]] = ()) -> Table:
    """Return the size of each engine on disk and in memory, with extra columns."""
    file: Tuple[Field[Entry], ...] = (
        (_mb("engine file"), lambda entry: entry.engine.engine_mb),
        (Column("load", "ms", ".0f"), lambda entry: entry.engine.load_ms),
    )
    return tabulate(
        "Size and memory",
        [*ENGINE, *_MEMORY, *file, *extra],
        entries,
        [
            "Memory of the engine's own process; 1 MB is 10^6 bytes. Model: added by loading. Arena: added "
            "by queries at batch 1. System rise: memory that the whole machine lost while the engine was "
            "loaded and warmed up; Offline included: and during its Offline turns (on a Jetson, CPU and GPU "
            "share memory). Device: GPU memory as the runtime reports it."
        ],
        key="memory",
    )


def energy_table(entries: Sequence[Entry]) -> Table:
    """Return power, energy and temperature of the boards that have sensors."""
    return tabulate(
        "Power, energy and temperature",
        [*ENGINE, *_ENERGY, *_SENSORS],
        [entry for entry in entries if entry.engine.recording is not None],
        [
            "Energy per image at batch 1, idle power included; above idle: minus the power of the idle "
            "board. Hottest and throttled: over the whole time that the engine was timed, Offline included. "
            "Curves over time continue through the turns of other engines."
        ],
        key="energy",
    )


def bench_tables(report: BenchmarkReport) -> List[Table]:
    """Return the tables that the terminal shows after a run; the last ends with the reasons for caution."""
    settings = report.settings
    name = device_name(report)
    if settings.device == Device.CPU and settings.threads is None:
        name = f"{name}, {number_of(report.environment.logical_cores, 'thread')}"
    entries = entries_of(report, name)
    tables = (
        (latency_table(entries, _RATIO), _latency_notes(report)),
        (stages_table(entries), [f"image: {_image(report)}"]),
        (throughput_table(entries), _throughput_notes(report)),
        (memory_table(entries, BUILD), ()),
        (energy_table(entries), _board_notes(report)),
    )
    shown = [
        dataclasses.replace(table, title=f"{table.title}: {name}", notes=(*table.notes, *notes))
        for table, notes in tables
        if table.rows
    ]
    caveat = find_caveat(report)
    if caveat is not None:
        shown[-1] = dataclasses.replace(shown[-1], notes=(*shown[-1].notes, caveat))
    return shown


def _throughput_notes(report: BenchmarkReport) -> Iterator[str]:
    if all(engine.single_stream is None for engine in report.engines):  # else the latency's notes have it
        yield _warm_up(report)


def _latency_notes(report: BenchmarkReport) -> Iterator[str]:
    streams = [engine.single_stream for engine in report.engines if engine.single_stream is not None]
    if streams:
        queries = min(stream.latency.count for stream in streams)
        seconds = min(stream.timed_seconds for stream in streams)
        harness = max(stream.harness_us for stream in streams)
        governor = report.interference.governor
        clock = "" if governor is None else f"; CPU clock: {governor}"
        yield (
            f"{queries} queries and {seconds:.1f} s or more each; {_warm_up(report)}; "
            f"harness: {harness:.1f} us a query{clock}"
        )
        yield "ratio: of medians to the first engine's, median over interleaved rounds"
        yield from _tf32_note(report)
        yield from _enqueue_notes(report)


def _enqueue_notes(report: BenchmarkReport) -> Iterator[str]:
    """Yield the engines whose queries wait for the CPU rather than the GPU."""
    for engine in report.engines:
        if engine.is_bound_by_enqueue and engine.enqueue_ms is not None:
            remedy = "a mode with a higher CPU clock may help"
            if not engine.cuda_graph:
                remedy += ", and a CUDA graph, which was not used"
            yield f"{engine.name}: the CPU takes {engine.enqueue_ms:.3f} ms to start a query; {remedy}"


def _tf32_note(report: BenchmarkReport) -> Iterator[str]:
    """Yield a caution if engines of TensorRT are compared with one in float32."""
    first, *others = report.engines
    is_float = (first.runtime, first.precision) == (TENSORRT.name, Precision.FP32.value)
    if is_float and any(engine.precision != first.precision for engine in others):
        yield (
            "FP32: TensorRT computes it without TF32. GPUs since Ampere (Orin) could use TF32, which is "
            "faster: the other engines would gain less over it"
        )


def _warm_up(report: BenchmarkReport) -> str:
    """Return how the engines were warmed up, if this is known of all."""
    known = [engine.warm_up for engine in report.engines if engine.warm_up is not None]
    if len(known) < len(report.engines):
        return "warm-up not known"
    steady = "steady" if all(warm_up.steady for warm_up in known) else "not all steady"
    return f"warm-up {min(warm_up.seconds for warm_up in known):.1f} s or more, {steady}"


def _board_notes(report: BenchmarkReport) -> Iterator[str]:
    """Yield the sensors, reasons for throttling, and a Jetson's software and settings."""
    recordings = [
        (engine.name, engine.recording) for engine in report.engines if engine.recording is not None
    ]
    for _, recording in recordings[:1]:
        rail = "" if recording.energy is None else f"power of {recording.energy.rail} during SingleStream, "
        cost = f"which takes {recording.cost_percent:.1f} % of one core"
        yield f"{rail}read from {recording.source} at {recording.hertz:.1f} Hz, {cost}"
    for name, recording in recordings:
        if recording.throttle_reasons:
            yield f"{name} was throttled: {', '.join(recording.throttle_reasons)}"
    environment = report.environment
    if environment.l4t is not None:
        parts = (f"L4T {environment.l4t}", f"JetPack {environment.jetpack}", f"CUDA {environment.cuda}")
        yield ", ".join(one for one in parts if not one.endswith(" None"))
    for when, state in (("before", report.board_before), ("after", report.board_after)):
        if state is not None:
            yield f"{when}: {board_settings(state)}"
    if report.board_before is not None and report.board_before.clocks_locked is False:
        yield "the clocks were not locked, so a second run may differ: ./jetson_setup.sh --max-performance"
