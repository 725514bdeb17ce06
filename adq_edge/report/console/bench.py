"""Tables made from a result of `bench`, each with its scenario by MLPerf's name."""

from __future__ import annotations

from typing import Callable, Iterator, List, NamedTuple, Optional, Sequence

from rich.table import Table

from adq_edge.benchmark.records import Comparison, EndToEnd, EngineBenchmark, Interval, Latency
from adq_edge.benchmark.results import BenchmarkReport
from adq_edge.core.options import Device
from adq_edge.hardware.telemetry.recording import Recording
from adq_edge.report.console.common import number, titled_table
from adq_edge.report.machines import device_name
from adq_edge.report.phrasing import board_words, failed_words, offline_words, yes_or_no


class _Column(NamedTuple):
    """A heading, and what stands below it for an engine; a dash for what was not measured."""

    heading: str
    cell: Callable[[EngineBenchmark], str]


def bench_tables(report: BenchmarkReport) -> List[Table]:
    """Return the tables of what was measured; the last one's caption says what to think of the figures."""
    tables: List[Table] = []
    if any(engine.single_stream is not None for engine in report.engines):
        tables += [latency_table(report), stages_table(report)]
    if any(engine.offline or failed_words(engine) is not None for engine in report.engines):
        tables.append(offline_table(report))
    tables.append(memory_table(report))
    if any(engine.recording is not None for engine in report.engines):
        tables.append(board_table(report))
    return tables


def latency_table(report: BenchmarkReport) -> Table:
    """Show the latency of SingleStream."""
    table = titled_table(f"SingleStream (batch 1, 1 stream): {_device(report)}", "engine")
    headings = ("mean ms", "p50 ms", "p90 ms", "p95 ms", "p99 ms", "min ms", "max ms")
    for heading in (*headings, "95 % interval of p50", "of p90", "ratio", "95 % interval"):
        table.add_column(heading, justify="right")
    for engine in report.engines:
        if engine.single_stream is None:
            continue
        latency = engine.single_stream.latency
        table.add_row(
            engine.name,
            *(number(value, 2) for value in _statistics(latency)),
            _interval(latency.p50_interval_ms, 2),
            _interval(latency.p90_interval_ms, 2),
            *_ratio(engine.comparison),
        )
    streams = [engine.single_stream for engine in report.engines if engine.single_stream is not None]
    queries = min(stream.latency.count for stream in streams)
    seconds = min(stream.timed_seconds for stream in streams)
    harness = max(stream.harness_us for stream in streams)
    governor = report.interference.governor
    clock = "" if governor is None else f"; CPU clock: {governor}"
    return _captioned(
        table,
        report,
        f"engine call only; {queries} queries and {seconds:.1f} s or more each, no outlier left out; "
        f"{_warm_up(report)}; the harness adds {harness:.1f} us to a query{clock}",
        "ratio: of medians to the first engine's, median over interleaved rounds",
    )


def _warm_up(report: BenchmarkReport) -> str:
    """Say how the engines were warmed up, as far as every one's file tells."""
    told = [engine.warm_up for engine in report.engines if engine.warm_up is not None]
    if len(told) < len(report.engines):
        return "warm-up not known"
    steady = "steady" if all(warm_up.steady for warm_up in told) else "not all steady"
    return f"warm-up {min(warm_up.seconds for warm_up in told):.1f} s or more, {steady}"


def stages_table(report: BenchmarkReport) -> Table:
    """Show the median of each stage from an encoded image to its anomaly map."""
    height, width = report.settings.image_pixels
    table = titled_table(f"end to end from {report.settings.image} ({width}x{height}), p50 ms", "engine")

    columns = [
        _stage("decode", lambda stages: stages.decode),
        _stage("preprocess", lambda stages: stages.preprocess),
        _stage("host-to-device", lambda stages: stages.host_to_device),
        _stage("inference", lambda stages: stages.inference),
        _stage("device-to-host", lambda stages: stages.device_to_host),
        _stage("postprocess", lambda stages: stages.postprocess),
        _stage("end to end", lambda stages: stages.total),
        _Column("overhead", lambda e: "-" if e.end_to_end is None else number(e.end_to_end.overhead_ms, 2)),
    ]
    _fill(table, columns, [engine for engine in report.engines if engine.end_to_end is not None])
    return _captioned(
        table, report, "overhead: preprocess, engine call and postprocess over a bare engine call"
    )


def _stage(heading: str, stage: Callable[[EndToEnd], Optional[Latency]]) -> _Column:
    def median(engine: EngineBenchmark) -> str:
        latency = None if engine.end_to_end is None else stage(engine.end_to_end)
        return number(None if latency is None else latency.p50_ms, 2)

    return _Column(heading, median)


def offline_table(report: BenchmarkReport) -> Table:
    """Show the throughput of Offline: a row for each batch size and number of streams that was tried."""
    table = titled_table(f"Offline: {_device(report)}", "engine")
    for heading in ("batch", "streams", "images/s"):
        table.add_column(heading, justify="right")
    table.add_column("")
    for engine in report.engines:
        for throughput in engine.offline:
            table.add_row(
                engine.name,
                str(throughput.batch),
                str(throughput.streams),
                number(throughput.images_per_second, 1),
                offline_words(engine, throughput),
            )
        failed = failed_words(engine)
        if failed is not None:
            table.add_row(engine.name, "-", "-", "-", failed)
        table.add_section()
    return _captioned(
        table, report, f"engine calls only; {_warm_up(report)}; streams share the CPU's threads"
    )


def memory_table(report: BenchmarkReport) -> Table:
    """Show the engines' size on disk and in memory."""
    table = titled_table("size and memory, MB (10^6 bytes)", "engine")
    columns = [
        _Column("engine file", lambda e: number(e.engine_mb, 1)),
        _Column("build s", lambda e: number(e.build_seconds, 0)),
        _Column("CUDA graph", lambda e: "-" if e.cuda_graph is None else yes_or_no(e.cuda_graph)),
        _Column("load ms", lambda e: number(e.load_ms, 0)),
        _Column("model", lambda e: number(e.memory.model_mb, 1)),
        _Column("arena", lambda e: number(e.memory.arena_mb, 1)),
        _Column("peak RSS, batch 1", lambda e: number(e.memory.peak_rss_batch_1_mb, 0)),
        _Column("peak RSS", lambda e: number(e.memory.peak_rss_mb, 0)),
        _Column("GPU", lambda e: number(e.memory.device_mb, 1)),
        _Column("system rise", lambda e: number(e.memory.system_rise_mb, 0)),
        _Column("Offline included", lambda e: number(e.memory.system_rise_offline_mb, 0)),
        _Column("swapped", lambda e: number(e.memory.swap_mb, 0)),
    ]
    _fill(table, columns, report.engines)
    return _captioned(
        table,
        report,
        "of a process of its own; model: what loading added, arena: what queries at batch 1 added",
        "system rise: what the machine had less while the engine was loaded and warmed up; Offline included: "
        "and in its turns of Offline",
    )


def board_table(report: BenchmarkReport) -> Table:
    """Show power, energy and temperature while the engines were timed."""
    recorded = [engine for engine in report.engines if engine.recording is not None]
    table = titled_table("the board while engines were timed", "engine")
    columns = [
        _Column("power W", lambda e: number(_energy(e, "mean_w"), 2)),
        _Column("idle W", lambda e: number(_energy(e, "idle_w"), 2)),
        _Column("J/image", lambda e: number(_energy(e, "joules_per_image"), 4)),
        _Column("above idle", lambda e: number(_energy(e, "joules_per_image_above_idle"), 4)),
        _Column("hottest degC", _hottest),
        _Column("throttled", _throttled),
    ]
    _fill(table, columns, recorded)
    lines = [_origin(engine.recording) for engine in recorded[:1] if engine.recording is not None]
    for engine in recorded:
        if engine.recording is not None and engine.recording.throttle_reasons:
            lines.append(f"{engine.name} was throttled: {', '.join(engine.recording.throttle_reasons)}")
    return _captioned(table, report, *lines, *_settings(report))


def _settings(report: BenchmarkReport) -> Iterator[str]:
    """Say what a Jetson runs and how it was set before and after."""
    environment = report.environment
    if environment.l4t is not None:
        parts = (f"L4T {environment.l4t}", f"JetPack {environment.jetpack}", f"CUDA {environment.cuda}")
        yield ", ".join(part for part in parts if not part.endswith(" None"))
    for when, state in (("before", report.board_before), ("after", report.board_after)):
        if state is not None:
            yield f"{when}: {board_words(state)}"


def _energy(engine: EngineBenchmark, name: str) -> Optional[float]:
    energy = None if engine.recording is None else engine.recording.energy
    return getattr(energy, name, None)


def _hottest(engine: EngineBenchmark) -> str:
    return number(None if engine.recording is None else engine.recording.hottest, 1)


def _throttled(engine: EngineBenchmark) -> str:
    throttled = None if engine.recording is None else engine.recording.throttled
    return "-" if throttled is None else yes_or_no(throttled)


def _origin(recording: Recording) -> str:
    rail = "" if recording.energy is None else f"power of {recording.energy.rail} during SingleStream, "
    return (
        f"{rail}read from {recording.source} at {recording.hertz:.1f} Hz, "
        f"which takes {recording.cost_percent:.1f} % of one core"
    )


def _fill(table: Table, columns: Sequence[_Column], engines: Sequence[EngineBenchmark]) -> None:
    """Add the columns that hold something for an engine, and the engines' rows."""
    told = [column for column in columns if any(column.cell(engine) != "-" for engine in engines)]
    for column in told:
        table.add_column(column.heading, justify="right")
    for engine in engines:
        table.add_row(engine.name, *(column.cell(engine) for column in told))


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


def _interval(interval: Optional[Interval], digits: int) -> str:
    return "-" if interval is None else f"{interval.low:.{digits}f} to {interval.high:.{digits}f}"


def _ratio(comparison: Optional[Comparison]) -> Sequence[str]:
    if comparison is None:
        return "1", ""
    return number(comparison.latency_ratio, 3), _interval(comparison.latency_ratio_interval, 3)


def _device(report: BenchmarkReport) -> str:
    name, settings = device_name(report), report.settings
    default = settings.device == Device.CPU and settings.threads is None
    return f"{name}, {report.environment.logical_cores} threads" if default else name


def _captioned(table: Table, report: BenchmarkReport, *lines: str) -> Table:
    """Say below a table what it holds and, in every one of them, why it is not to be quoted."""
    table.caption = "\n".join([*lines, *([] if report.caveat is None else [report.caveat])])
    return table
