"""How a report words its results: significant digits, names of number formats, and comparisons."""

from __future__ import annotations

from typing import Optional, Sequence, Tuple

from adq_edge.artifacts.sidecar import Calibration
from adq_edge.benchmark.quotable import Flag
from adq_edge.benchmark.records import EngineBenchmark, OfflineEnd, Throughput
from adq_edge.core.options import Precision
from adq_edge.core.text import number_of, printable
from adq_edge.hardware.board_state import BoardState
from adq_edge.report.model import Entry

_SAME_SPEED = 0.02
_PRECISIONS = {precision.value for precision in Precision}
_BEST = {
    None: "best",
    OfflineEnd.STOPPED_RISING: "best: larger batches are not faster",
    OfflineEnd.LARGEST_BATCH: "best; larger batches were not tried",
    OfflineEnd.TOO_LONG: "best; larger batches would take too long",
    OfflineEnd.NAMED: "best of the batch sizes named",
    OfflineEnd.FAILED: "best before it failed",
}


def significant(value: float) -> str:
    """Return a number with three significant digits; without decimals from 100 on."""
    if value == 0:
        return "0"
    for limit, digits in ((0.01, 5), (0.1, 4), (1, 3), (10, 2), (100, 1)):
        if abs(value) < limit:
            return f"{value:.{digits}f}"
    return f"{value:.0f}"


def precision_name(precision: str) -> str:
    """Return the usual name of a number format, for example `INT8`."""
    return precision.upper() if precision in _PRECISIONS else printable(precision)


def yes_or_no(answer: Optional[bool]) -> str:
    """Return the word for an answer; `not known` for None."""
    return {None: "not known", True: "yes", False: "no"}[answer]


def throughput_remark(engine: EngineBenchmark, throughput: Throughput) -> str:
    """Return why no larger batch was tried, for the engine's best throughput; empty for others."""
    if throughput != engine.best_offline:
        return ""
    best = _BEST[engine.offline_end]
    return best if engine.offline_failure is None else f"{best} {printable(engine.offline_failure)}"


def offline_failure(engine: EngineBenchmark) -> Optional[str]:
    """Return why Offline has no throughput at all; None if it has one or was not run."""
    if engine.offline or engine.offline_failure is None:
        return None
    return f"failed {printable(engine.offline_failure)}"


def board_settings(state: BoardState) -> str:
    """Return a board's power mode, clocks and temperature, as far as they are known."""
    locked = {None: "", True: "clocks locked", False: "clocks not locked"}[state.clocks_locked]
    parts = (
        *("power mode unknown" if state.power_mode is None else state.power_mode.label, locked),
        "" if state.gpu_mhz is None else f"GPU {state.gpu_mhz:.0f} MHz",
        "" if state.emc_mhz is None else f"memory {state.emc_mhz:.0f} MHz",
        "" if state.hottest_degc is None else f"{state.hottest_degc:.1f} degC",
    )
    return ", ".join(filter(None, parts))


def speed_phrase(entry: Entry) -> Optional[str]:
    """Return the comparison of speed with the baseline, for example `2.9x faster than FP32`."""
    if entry.speed is None or entry.baseline is None:
        return None
    ratio, interval = entry.speed.ratio, entry.speed.interval
    name, runtime = precision_name(entry.baseline.engine.precision), entry.baseline.engine.runtime
    if runtime != entry.engine.runtime:
        name += f" with {printable(runtime)}"
    if abs(1 - ratio) < _SAME_SPEED:
        return f"as fast as {name}"
    if interval is not None and interval.low <= 1 <= interval.high:
        return f"not measurably faster or slower than {name}"
    return f"{_factor(1 / ratio)} faster than {name}" if ratio < 1 else f"{_factor(ratio)} slower than {name}"


def speed_factor(entry: Entry) -> Optional[str]:
    """Return how many times as fast as the baseline an engine is, for example `2.9x`."""
    if entry.speed is None or entry.baseline is None:
        return None
    ratio, interval = entry.speed.ratio, entry.speed.interval
    is_same = interval is not None and interval.low <= 1 <= interval.high
    if is_same or abs(1 - ratio) < _SAME_SPEED:
        return "1x"
    return f"{1 / ratio:.2f}x" if ratio > 1 / 1.1 else f"{1 / ratio:.1f}x"


def auroc_phrase(entry: Entry) -> Optional[str]:
    """Return the change of the image AUROC from the baseline's, for example `AUROC 0.001 lower`."""
    change = entry.auroc_change
    if change is None:
        return None
    if abs(change) < 0.0005:
        return "AUROC the same"
    return f"AUROC {abs(change):.3f} {'lower' if change < 0 else 'higher'}"


def size_phrase(entry: Entry) -> Optional[str]:
    """Return how much smaller the engine file is than the baseline's."""
    if entry.baseline is None or not entry.engine.engine_mb:
        return None
    ratio = entry.baseline.engine.engine_mb / entry.engine.engine_mb
    return f"file {_factor(ratio)} smaller" if ratio >= 1 + _SAME_SPEED else None


def flips_phrase(entry: Entry) -> Optional[str]:
    """Return how many decisions `compare` found changed."""
    agreement = entry.agreement
    if agreement is None or agreement.flips is None:
        return None
    images = len(agreement.images)
    if not agreement.flips.count:
        return f"no decision of {images} changes"
    return f"{agreement.flips.count} of {images} decisions change, {agreement.flips.mistakes} for the worse"


def comparison_phrase(entry: Entry) -> str:
    """Return the whole comparison with the baseline; empty without a baseline."""
    parts = (speed_phrase(entry), auroc_phrase(entry), size_phrase(entry), flips_phrase(entry))
    return ", ".join(filter(None, parts))


def finding(entry: Entry) -> Optional[str]:
    """Return the comparison with the baseline with its figures, in one phrase; None without a baseline."""
    speed, latency = speed_phrase(entry), entry.latency
    if speed is None or latency is None or entry.baseline is None:
        return None
    before = entry.baseline.latency
    reference = "" if before is None else f" instead of {significant(before.p50_ms)}"
    name, quality = precision_name(entry.engine.precision), auroc_phrase(entry)
    if quality is not None and entry.image_auroc is not None:
        quality += f" ({entry.image_auroc:.3f})"
    figures = f"{name} is {speed} ({significant(latency.p50_ms)}{reference} ms an image)"
    return ", ".join(filter(None, (figures, quality, size_phrase(entry), flips_phrase(entry))))


def comparison_flags(entry: Entry) -> Tuple[Flag, ...]:
    """Return the reasons for caution with a comparison, those of the baseline included."""
    if entry.baseline is None:
        return entry.all_flags
    name = precision_name(entry.baseline.engine.precision)
    own = {flag.word for flag in entry.all_flags}
    others = [flag for flag in entry.baseline.all_flags if flag.word not in own]
    flags = [*entry.all_flags, *(Flag(f"{name} {flag.word}", f"{name}: {flag.reason}") for flag in others)]
    if entry.speed is not None and not entry.speed.interleaved:
        reason = f"this engine and {name} were timed in separate runs, so drift may have affected only one"
        flags.append(Flag("not in turns", reason))
    return tuple(flags)


def caution_words(flags: Sequence[Flag]) -> str:
    """Return the short names of the reasons for caution; empty without any."""
    return ", ".join(flag.word for flag in flags)


def _factor(ratio: float) -> str:
    return f"{ratio:.2f}x" if ratio < 1.1 else f"{ratio:.1f}x"


def calibration_text(calibration: Calibration) -> str:
    """Return how the ranges of an engine were measured, for example `lp, 64 inputs of source images`."""
    inputs = number_of(calibration.images, "input")
    return f"{calibration.calibrator}, {inputs} of source {calibration.source}"
