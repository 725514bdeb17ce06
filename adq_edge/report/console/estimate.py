"""The table of a roofline estimate; every heading says that it is one."""

from __future__ import annotations

import itertools
from typing import Iterator, List, Sequence, Tuple

from rich.table import Table

from adq_edge.roofline.estimate import EngineEstimate, ModelEstimate
from adq_edge.roofline.published import CONDITIONS
from adq_edge.roofline.roofline import Estimate

HEADINGS = (
    "precision",
    "power mode",
    "estimate: lower bound, ms",
    "estimate: at 50 to 25 % of peak, ms",
    "estimate: of which compute + memory, ms",
    "study: measured, ms",
)


def estimate_table(result: ModelEstimate) -> Table:
    """Show what a model's engines could do on a board in each power mode, beside what the study measured."""
    table = Table(
        title=f"ESTIMATE, nothing was measured: {result.name} ({result.arch}) on {result.board}, batch 1",
        title_justify="left",
        caption_justify="left",
    )
    for position, heading in enumerate(HEADINGS):
        table.add_column(heading, justify="left" if position < 2 else "right")
    for engine in result.engines:
        for row in engine_rows(engine):
            table.add_row(*row)
        table.add_section()
    table.caption = "\n".join([result.note, *map(_work, result.engines), *_conditions(result)])
    return table


def engine_rows(engine: EngineEstimate) -> List[List[str]]:
    """Return a line for each group of power modes that do not differ here, then one for the study."""
    rows = []
    for modes, estimate in group_modes(engine.modes):
        shortest, longest = estimate.range_ms
        rows.append(
            [
                engine.precision.value,
                modes,
                _milliseconds(estimate.lower_bound_ms),
                f"{_milliseconds(shortest)} to {_milliseconds(longest)}",
                f"{_milliseconds(estimate.compute_bound_ms)} + {_milliseconds(estimate.memory_bound_ms)}",
                "",
            ]
        )
    if engine.study_ms is not None:
        rows.append([engine.precision.value, "study: 30 W", "", "", "", _milliseconds(engine.study_ms)])
    return rows


def group_modes(estimates: Sequence[Estimate]) -> Iterator[Tuple[str, Estimate]]:
    """Yield power and ids of the modes with equal clocks, and their estimate; fastest first."""

    def clocks(estimate: Estimate) -> Tuple[float, float]:
        return estimate.mode.gpu_mhz, estimate.mode.memory_mhz

    for _, group in itertools.groupby(sorted(estimates, key=clocks, reverse=True), clocks):
        alike = list(group)
        numbers = ", ".join(str(estimate.mode.number) for estimate in alike)
        yield f"{_power(alike[0].mode.name)} ({numbers})", alike[0]


def _power(mode: str) -> str:
    """Return what tells a mode such as MODE_15W_DESKTOP from modes with other clocks."""
    _, power, kind = (*mode.split("_"), "", "")[:3]
    return power if kind.endswith("CORE") else f"{power} {kind.lower()}"


def _milliseconds(value: float) -> str:
    return f"{value:.2f}"


def _work(engine: EngineEstimate) -> str:
    fastest = next(group_modes(engine.modes))[1]
    return (
        f"{engine.precision.value}: {engine.gmac:.2f} GMAC, {engine.weight_mb:.1f} MB of weights, "
        f"{engine.traffic_mb:.1f} MB of traffic, {engine.operations_per_byte:.0f} operations a byte; of "
        f"{len(engine.layers)} kernels {fastest.compute_bound_layers} are compute-bound in the fastest mode"
    )


def _conditions(result: ModelEstimate) -> List[str]:
    return [CONDITIONS] if any(engine.study_ms is not None for engine in result.engines) else []
