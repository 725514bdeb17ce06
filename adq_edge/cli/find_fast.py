"""`adq-edge train --find-fast`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, List, Optional, Tuple

from adq_edge.cli.common import needs_training_half
from adq_edge.cli.output import Output
from adq_edge.core.errors import AdqError, DataError

if TYPE_CHECKING:
    from adq_edge.study.fast_results import FastEngine, FastSearch

NONE_WITHIN = 1


def search(
    find_fast: bool,
    unsuited: List[str],
    within: Optional[float],
    data: Optional[Path],
    image_size: Optional[int] = None,
    **settings: Any,
) -> Output:
    """Search the fastest models, and name the best one within a latency.

    Args:
        find_fast: whether the user asked for a search.
        unsuited: names of options that a search cannot use.
        within: the largest median latency in ms; None for no limit.
        data: the dataset folder.
        image_size: the only size of the input to try, in pixels; several by default.
        settings: the other arguments of `adq_edge.find_fast`.
    """
    if not find_fast:
        raise AdqError("--within is for --find-fast", fix="Add --find-fast")
    if unsuited:
        raise AdqError(
            f"--{unsuited[0].replace('_', '-')} cannot be combined with --find-fast",
            fix="Omit it: a search determines it",
        )
    if within is not None and not within > 0:
        raise AdqError("needs a latency above 0 ms", where="--within")
    if data is None:
        raise DataError("no images to train on", fix="Name a dataset with --data")
    with needs_training_half():
        from adq_edge.datasets.layouts.registry import layout_arguments
        from adq_edge.study.fast_results import engines_table
        from adq_edge.study.find_fast import FOLDER, MARKDOWN_FILE, PAGE, RESULT_FILE
        from adq_edge.study.find_fast import find_fast as run
    if image_size is not None:
        settings["image_sizes"] = [image_size]
    result = run(data, **settings)
    folder = Path(settings.get("output", FOLDER))
    lines = [
        f"table: {folder / MARKDOWN_FILE}; plot: {folder / PAGE}; every figure: {folder / RESULT_FILE}",
        f"{result.cpu_minutes:.1f} minutes of CPU time",
    ]
    best, failures = _choose(result, within)
    if best is not None:
        lines.append(f"{'best' if within is None else f'best within {within:g} ms'}: {_describe(best)}")
    return Output(
        result,
        [engines_table(result)],
        lines,
        next_step=("fit", (best or result.front[-1]).engine, "--data", data, *layout_arguments()),
        failures=failures,
        exit_code=NONE_WITHIN if failures else 0,
    )


def _choose(result: FastSearch, within: Optional[float]) -> Tuple[Optional[FastEngine], List[str]]:
    """Return the best engine, and one sentence if all are slower than the limit."""
    if within is None:
        return max(result.front, key=lambda one: one.auroc), []
    best = result.best_within(within)
    if best is not None:
        return best, []
    fastest = result.engines[0]
    return None, [f"no engine takes {within:g} ms or less; the fastest: {_describe(fastest)}"]


def _describe(engine: FastEngine) -> str:
    from adq_edge.study.find_fast import describe

    return f"{engine.engine} ({describe(engine.point, engine.p50_ms, engine.auroc)})"
