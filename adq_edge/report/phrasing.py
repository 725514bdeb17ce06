"""How a report says things: numbers with as many digits as they deserve, and comparisons in words."""

from __future__ import annotations

from typing import Optional, Sequence, Tuple

from adq_edge.benchmark.records import EngineBenchmark, OfflineEnd, Throughput
from adq_edge.benchmark.results import Flag
from adq_edge.core.options import Precision
from adq_edge.core.text import plain
from adq_edge.hardware.board_state import BoardState
from adq_edge.report.model import Device, Entry

_SAME_SPEED = 0.02
_BEST = {
    None: "best",
    OfflineEnd.STOPPED_RISING: "best: larger batches bring no more",
    OfflineEnd.LARGEST_BATCH: "best; larger batches were not tried",
    OfflineEnd.TOO_LONG: "best; larger batches would take too long",
    OfflineEnd.NAMED: "best of the batch sizes named",
    OfflineEnd.FAILED: "best before it failed",
}


def significant(value: float) -> str:
    """Show a positive number with three significant digits, and whole above that."""
    if value == 0:
        return "0"
    for limit, digits in ((0.01, 5), (0.1, 4), (1, 3), (10, 2), (100, 1)):
        if abs(value) < limit:
            return f"{value:.{digits}f}"
    return f"{value:.0f}"


def precision_name(precision: str) -> str:
    """Return the name of a number format as people write it."""
    return precision.upper() if precision in {known.value for known in Precision} else plain(precision)


def offline_words(engine: EngineBenchmark, load: Throughput) -> str:
    """Return True if a throughput is an engine's best, and whether a larger batch may bring more."""
    if load != engine.best_offline:
        return ""
    words = _BEST[engine.offline_end]
    return words if engine.offline_failure is None else f"{words} {plain(engine.offline_failure)}"


def failed_words(engine: EngineBenchmark) -> Optional[str]:
    """Say why there is no throughput of an engine, where Offline failed before there was any."""
    if engine.offline or engine.offline_failure is None:
        return None
    return f"failed {plain(engine.offline_failure)}"


def engine_words(device: Device, entry: Entry) -> Tuple[str, str, str]:
    """Return what names an engine in a table: its name, its device and its number format."""
    return entry.engine.name, device.name, precision_name(entry.engine.precision)


def yes_or_no(told: Optional[bool]) -> str:
    """Say what is known of a question."""
    return {None: "not known", True: "yes", False: "no"}[told]


def board_words(state: BoardState) -> str:
    """Say how a board is set, as far as it tells."""
    locked = {None: "", True: "clocks locked", False: "clocks not locked"}[state.clocks_locked]
    parts = (
        *("" if state.power_mode is None else state.power_mode.label, locked),
        "" if state.gpu_mhz is None else f"GPU {state.gpu_mhz:.0f} MHz",
        "" if state.emc_mhz is None else f"memory {state.emc_mhz:.0f} MHz",
        "" if state.hottest_degc is None else f"{state.hottest_degc:.1f} degC",
    )
    return ", ".join(part for part in parts if part)


def baseline_name(entry: Entry, baseline: Entry) -> str:
    """Return what an engine's baseline is called: its precision, and its runtime where that is another."""
    name, runtime = precision_name(baseline.engine.precision), baseline.engine.runtime
    return name if runtime == entry.engine.runtime else f"{name} with {plain(runtime)}"


def speed_words(entry: Entry) -> Optional[str]:
    """Say how fast an engine is compared with its baseline: `2.9x faster than FP32`."""
    if entry.speed is None or entry.baseline is None:
        return None
    ratio, interval = entry.speed.ratio, entry.speed.interval
    name = baseline_name(entry, entry.baseline)
    if abs(1 - ratio) < _SAME_SPEED:
        return f"as fast as {name}"
    if interval is not None and interval.low <= 1 <= interval.high:
        return f"not measurably faster or slower than {name}"
    return f"{_factor(1 / ratio)} faster than {name}" if ratio < 1 else f"{_factor(ratio)} slower than {name}"


def auroc_words(entry: Entry) -> Optional[str]:
    """Say how an engine's image AUROC differs from its baseline's: `AUROC 0.001 lower`."""
    change = entry.auroc_change
    if change is None:
        return None
    if abs(change) < 0.0005:
        return "AUROC the same"
    return f"AUROC {abs(change):.3f} {'lower' if change < 0 else 'higher'}"


def size_words(entry: Entry) -> Optional[str]:
    """Say how much smaller an engine's file is than its baseline's."""
    if entry.baseline is None or not entry.engine.engine_mb:
        return None
    ratio = entry.baseline.engine.engine_mb / entry.engine.engine_mb
    return f"file {_factor(ratio)} smaller" if ratio >= 1 + _SAME_SPEED else None


def flip_words(entry: Entry) -> Optional[str]:
    """Say how many decisions `compare` found changed."""
    found = entry.agreement
    if found is None or found.flips is None:
        return None
    images = len(found.images)
    if not found.flips.count:
        return f"no decision of {images} changes"
    return f"{found.flips.count} of {images} decisions change, {found.flips.mistakes} for the worse"


def in_words(entry: Entry) -> str:
    """Say what an engine's number format bought and cost, in a phrase; empty without a baseline."""
    parts = (speed_words(entry), auroc_words(entry), size_words(entry), flip_words(entry))
    return ", ".join(part for part in parts if part is not None)


def finding(entry: Entry) -> Optional[str]:
    """Say what matters about an engine in one sentence, with the figures; None without a baseline."""
    speed, latency = speed_words(entry), entry.latency
    if speed is None or latency is None or entry.baseline is None:
        return None
    stream = entry.baseline.engine.single_stream
    before = "" if stream is None else f" instead of {significant(stream.latency.p50_ms)}"
    name = precision_name(entry.engine.precision)
    parts = [f"{name} is {speed} ({significant(latency.p50_ms)}{before} ms an image)"]
    quality = auroc_words(entry)
    if quality is not None and entry.quality is not None and entry.quality.image_auroc is not None:
        parts.append(f"{quality} ({entry.quality.image_auroc:.3f})")
    parts += [part for part in (size_words(entry), flip_words(entry)) if part is not None]
    return ", ".join(parts)


def reservations(entry: Entry) -> Tuple[Flag, ...]:
    """Return the reasons for caution with a comparison: the engine's own, its baseline's, and of the two."""
    if entry.baseline is None:
        return entry.all_flags
    name = precision_name(entry.baseline.engine.precision)
    own = {flag.word for flag in entry.all_flags}
    others = [flag for flag in entry.baseline.all_flags if flag.word not in own]
    flags = [*entry.all_flags, *(Flag(f"{name} {flag.word}", f"{name}: {flag.reason}") for flag in others)]
    if entry.speed is not None and not entry.speed.interleaved:
        flags.append(
            Flag("not in turns", f"it and {name} were timed apart, so that drift may have hit but one")
        )
    return tuple(flags)


def cautions(flags: Sequence[Flag]) -> str:
    """Return the words of caution that stand beside an engine's figures; empty if there is none."""
    return ", ".join(flag.word for flag in flags)


def _factor(ratio: float) -> str:
    return f"{ratio:.2f}x" if ratio < 1.1 else f"{ratio:.1f}x"
