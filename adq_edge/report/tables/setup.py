"""The tables of what figures depend on: how the engines were built, and how their board was set."""

from __future__ import annotations

from typing import Sequence, Tuple

from adq_edge.hardware.board_state import BoardState
from adq_edge.report.model import Device
from adq_edge.report.phrasing import engine_words, yes_or_no
from adq_edge.report.table import ENGINE, Cell, Column, Sheet, sheet, text


def engines_sheet(devices: Sequence[Device]) -> Sheet:
    """Show what building the engines took and what came of it."""
    columns = (*ENGINE, Column("build", "s", 1), text("CUDA graph"), text("layers", long=True))
    rows = [
        (
            *engine_words(device, entry),
            entry.engine.build_seconds,
            None if entry.engine.cuda_graph is None else yes_or_no(entry.engine.cuda_graph),
            ", ".join(f"{count} {name}" for name, count in entry.engine.layers.items()),
        )
        for device in devices
        for entry in device.entries
    ]
    note = (
        "Layers that the runtime executes: by number format where TensorRT tells it, else by the runtime's "
        "own names for its operators."
    )
    return sheet(
        "engines", "Engines as they were built", columns, [row for row in rows if any(row[3:])], note
    )


def board_sheet(devices: Sequence[Device]) -> Sheet:
    """Show how each engine's board was set before it was measured and after."""
    columns = (
        *ENGINE,
        *(text("when"), text("power mode"), text("clocks locked")),
        *(Column("GPU", "MHz", 0), Column("memory", "MHz", 0), Column("hottest", "°C", 1)),
    )
    rows = [
        (*engine_words(device, entry), when, *_state(state))
        for device in devices
        for entry in device.entries
        for when, state in (
            ("before", entry.measurement.report.board_before),
            ("after", entry.measurement.report.board_after),
        )
        if state is not None
    ]
    note = (
        "Of the run that the engine was measured in. A power mode's watts cap clocks, they measure no power."
    )
    return sheet("board", "The board before and after", columns, rows, note)


def _state(state: BoardState) -> Tuple[Cell, ...]:
    mode = None if state.power_mode is None else state.power_mode.label
    return mode, yes_or_no(state.clocks_locked), state.gpu_mhz, state.emc_mhz, state.hottest_degc
