"""The table of roofline estimates; every heading of an estimate contains "estimate"."""

from __future__ import annotations

import itertools
import re
from typing import Iterator, List, NamedTuple, Optional, Sequence, Tuple

from adq_edge.core.text import number_of
from adq_edge.hardware.boards import BOARDS, Board
from adq_edge.report.phrasing import precision_name
from adq_edge.report.table import Column, Field, Table, part, tabulate, text
from adq_edge.roofline.estimate import EngineEstimate, ModelEstimate
from adq_edge.roofline.published import CONDITIONS
from adq_edge.roofline.roofline import Estimate


class _Line(NamedTuple):
    """A group of power modes of one engine; the line of the published measurement has no estimate."""

    model: ModelEstimate
    engine: EngineEstimate
    modes: str
    estimate: Optional[Estimate]


def _ms(name: str) -> Column:
    return Column(f"estimate: {name}", "ms", ".2f")


_ESTIMATE: List[Field[_Line]] = part(
    lambda line: line.estimate,
    (
        (_ms("lower bound"), lambda estimate: estimate.lower_bound_ms),
        (_ms("expected"), lambda estimate: estimate.expected_ms),
        (_ms("from"), lambda estimate: estimate.range_ms[0]),
        (_ms("to"), lambda estimate: estimate.range_ms[1]),
        (_ms("overhead of kernels"), lambda estimate: estimate.kernels_ms),
        (_ms("compute-bound part"), lambda estimate: estimate.compute_bound_ms),
        (_ms("memory-bound part"), lambda estimate: estimate.memory_bound_ms),
    ),
)
_FIELDS: Tuple[Field[_Line], ...] = (
    (text("model", terminal=False), lambda line: line.model.name),
    (text("board", terminal=False), lambda line: line.model.board),
    (text("precision"), lambda line: precision_name(line.engine.precision.value)),
    (text("power mode"), lambda line: line.modes),
    (Column("GMAC", spec=".2f", terminal=False), lambda line: line.engine.gmac),
    (Column("weights", "MB", ".1f", terminal=False), lambda line: line.engine.weight_mb),
    (Column("traffic", "MB", ".0f", terminal=False), lambda line: line.engine.traffic_mb),
    (Column("operations a byte", spec=".0f", terminal=False), lambda line: line.engine.operations_per_byte),
    *_ESTIMATE,
    (
        Column("published, measured", "ms", ".2f"),
        lambda line: line.engine.study_ms if line.estimate is None else None,
    ),
)


def estimates_table(estimates: Sequence[ModelEstimate]) -> Table:
    """Return the roofline estimates of engines in each power mode, and the published measurements."""
    lines: List[_Line] = []
    rules = []
    for model in estimates:
        for engine in model.engines:
            lines += [_Line(model, engine, modes, one) for modes, one in group_modes(engine.modes)]
            if engine.study_ms is not None:
                lines.append(_Line(model, engine, "published: 30 W", None))
            rules.append(len(lines) - 1)
    notes = list(dict.fromkeys(model.note for model in estimates))
    if any(line.estimate is None for line in lines):
        notes.append(CONDITIONS)
    title = "Estimates: nothing here was measured"
    return tabulate(title, _FIELDS, lines, notes, rules=rules, key="estimates")


def estimate_table(model: ModelEstimate) -> Table:
    """Return one model's estimates as the terminal shows them, with the work of each engine below."""
    table = estimates_table([model])
    title = f"ESTIMATE, nothing was measured: {model.name} ({model.arch}) on {model.board}, batch 1"
    note, *conditions = table.notes
    boards = (_describe(board) for board in BOARDS if board.name == model.board)
    notes = (note, *boards, *map(_work, model.engines), *conditions)
    return Table(title, table.columns, table.rows, notes, table.rules)


def group_modes(estimates: Sequence[Estimate]) -> Iterator[Tuple[str, Estimate]]:
    """Yield power and ids of the modes with equal clocks, and their estimate; the fastest first."""

    def clocks(estimate: Estimate) -> Tuple[float, float, float]:
        mode = estimate.mode
        return mode.gpu_mhz * (mode.sms or 1), mode.gpu_mhz, mode.memory_mhz

    for _, group in itertools.groupby(sorted(estimates, key=clocks, reverse=True), clocks):
        alike = list(group)
        numbers = ", ".join(str(estimate.mode.number) for estimate in alike)
        yield f"{_power(alike[0].mode.name)} ({numbers})", alike[0]


def _power(mode: str) -> str:
    """Return the part of a mode's name, such as MODE_15W_DESKTOP, that differs between clocks."""
    power = re.sub(r"^MODE_|_(\d+CORE|ALL)$", "", mode)
    return power.replace("_DESKTOP", " desktop")


def _work(engine: EngineEstimate) -> str:
    fastest = next(group_modes(engine.modes))[1]
    return (
        f"{engine.precision.value}: {engine.gmac:.2f} GMAC, {engine.weight_mb:.1f} MB of weights, "
        f"{engine.traffic_mb:.1f} MB of traffic, {engine.operations_per_byte:.0f} operations a byte; of "
        f"{len(engine.layers)} kernels {fastest.compute_bound_layers} are compute-bound in the fastest mode"
        f"{_launches(fastest)}"
    )


def _describe(board: Board) -> str:
    """Return what the estimate knows of a board."""
    mode, chip = board.fastest_mode, board.chip
    fp16, int8 = (board.peak(mode, name) / 1e12 for name in ("fp16", "int8"))
    dla = f"{number_of(board.dla_cores, 'DLA core')} (not used here)" if board.dla_cores else "no DLA"
    return (
        f"{board.name}: {chip.gpu}, compute capability {chip.compute_capability}, {board.sms} SMs, "
        f"{board.memory_gb} GB, {dla}; peaks in "
        f"{_power(mode.name)}: {fp16:.1f} TFLOPS in FP16, {int8:.1f} TOPS in INT8, "
        f"{board.bandwidth(mode) / 1e9:.1f} GB/s"
    )


def _launches(fastest: Estimate) -> str:
    """Return a remark if starting kernels takes at least half of the expected latency."""
    if fastest.expected_ms is None or fastest.kernels_ms is None:
        return ""
    share = fastest.kernels_ms / fastest.expected_ms
    return f"; their number alone costs {100 * share:.0f} % of the expected latency" if share >= 0.5 else ""
