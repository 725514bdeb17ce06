"""The table of a search for a precision plan."""

from __future__ import annotations

from rich.table import Table

from adq_edge.artifacts.precision_plan import Measure, Plan, Search
from adq_edge.core.console import decibels
from adq_edge.core.errors import ResultError

_MEASURES = {
    Measure.IMAGE_AUROC: "image AUROC of FP32 less the engine's",
    Measure.MAP_ERROR: "relative error of the anomaly map, root of sum (FP32 - engine)^2 / sum FP32^2",
}


def plan_table(plan: Plan) -> Table:
    """Show the engines that a search measured: what float32 layers bought, and what they cost in time.

    Raises:
        ResultError: the plan is not a search's.
    """
    search = plan.search
    if search is None or not search.steps:
        raise ResultError("the plan was not searched for", fix="Find one: adq-edge build --max-drop DROP")
    table = Table(title="layers in float32, worst first", title_justify="left", caption_justify="left")
    headings = ("float32 layers", "drop", "bought", "map SNR", "p50 latency", "")
    for heading in headings:
        table.add_column(heading, justify="right")
    worst = search.steps[0].drop
    for step in search.steps:
        table.add_row(
            f"{step.float_layers} of {search.layers}",
            f"{step.drop:.4g}",
            f"{worst - step.drop:+.4g}" if step.float_layers else "-",
            decibels(step.map_snr_db),
            "-" if step.latency_ratio is None else f"{step.latency_ratio:.2f} x",
            "chosen" if step.float_layers == len(plan.float_layers) else "",
        )
    table.caption = _caption(search)
    return table


def _caption(search: Search) -> str:
    latency = f"the engines were emulated: no latency ({search.runtime})"
    if search.fp32_latency_ratio is not None:
        latency = (
            "latency: of medians, to the all-INT8 engine's; FP32 takes "
            f"{search.fp32_latency_ratio:.2f} x ({search.runtime}, {search.cpu})"
        )
    outcome = "held" if search.holds else "not held; the nearest plan was taken"
    return (
        f"drop: {_MEASURES[search.measure]}; {search.images} images of {search.data}\n"
        f"at most {search.max_drop:g} was asked for: {outcome}\n"
        f"{latency}"
    )
