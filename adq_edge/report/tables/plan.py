"""The table of a search for a precision plan."""

from __future__ import annotations

from typing import Tuple

from adq_edge.artifacts.precision_plan import Measure, Plan, Search
from adq_edge.core.errors import ResultError
from adq_edge.core.text import decibels, number_of
from adq_edge.report.table import Column, Table

_MEASURES = {
    Measure.IMAGE_AUROC: "image AUROC of FP32 minus the engine's",
    Measure.MAP_ERROR: "relative error of the anomaly map, root of sum (FP32 - engine)^2 / sum FP32^2",
}
_COLUMNS = (
    *(Column("float32 layers"), Column("drop", spec=".4g"), Column("gained", spec="+.4g")),
    *(Column("map SNR"), Column("p50 latency"), Column("")),
)


def plan_table(plan: Plan) -> Table:
    """Return the engines that a search measured: what float32 layers gained, and their cost in time.

    Raises:
        ResultError: the plan is not the result of a search.
    """
    search = plan.search
    if search is None or not search.steps:
        raise ResultError("the plan was not searched for", fix="Find one: adq-edge build --max-drop DROP")
    worst = search.steps[0].drop
    rows = tuple(
        (
            f"{step.float_layers} of {search.layers}",
            step.drop,
            worst - step.drop if step.float_layers else None,
            decibels(step.map_snr_db),
            None if step.latency_ratio is None else f"{step.latency_ratio:.2f} x",
            "chosen" if step.float_layers == len(plan.float_layers) else "",
        )
        for step in search.steps
    )
    return Table("layers in float32, worst first", _COLUMNS, rows, _notes(search))


def _notes(search: Search) -> Tuple[str, ...]:
    latency = f"the engines were emulated: no latency ({search.runtime})"
    if search.fp32_latency_ratio is not None:
        latency = (
            "latency: of medians, to the all-INT8 engine's; FP32 takes "
            f"{search.fp32_latency_ratio:.2f} x ({search.runtime}, {search.cpu})"
        )
    outcome = "reached" if search.holds else "not reached; the nearest plan was taken"
    return (
        f"drop: {_MEASURES[search.measure]}; {number_of(search.images, 'image')} of {search.data}",
        f"largest drop allowed: {search.max_drop:g}: {outcome}",
        latency,
    )
