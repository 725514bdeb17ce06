"""Rules for the threshold in an engine's sidecar: when `eval` stores one, and when `predict` uses it."""

from __future__ import annotations

from typing import Optional, Sequence

from adq_edge.artifacts.sidecar import Threshold
from adq_edge.core.runtimes import registered_runtimes
from adq_edge.core.text import command_line
from adq_edge.metrics.quality import describe_single_class
from adq_edge.runtimes.base import Engine


def runs_in_other_runtime(engine: Engine) -> bool:
    """Return True if an engine runs in another runtime than the one that it was built for.

    Another runtime rounds differently, so the scores differ. The stored threshold belongs to the engine's own
    runtime.
    """
    return engine.runtime != engine.sidecar.runtime


def usable_threshold(engine: Engine) -> Optional[Threshold]:
    """Return the stored threshold of an engine; None if there is none or it is of another runtime."""
    return None if runs_in_other_runtime(engine) else engine.sidecar.threshold


def explain_missing_threshold(engine: Engine) -> str:
    """Return why an engine has no usable threshold and what to do, as one sentence or two."""
    if engine.sidecar.threshold is not None and runs_in_other_runtime(engine):
        return (
            f"{engine.path}: its threshold was measured with {runtime_label(engine.sidecar.runtime)}, "
            f"not with {runtime_label(engine.runtime)}. Omit --runtime, or build an engine for that runtime."
        )
    own = " with the runtime that it was built for" if runs_in_other_runtime(engine) else ""
    data = ("--data", "DIR") if engine.sidecar.data is None else ()
    command = command_line("eval", engine.path, *data)
    return f"{engine.path}: has no threshold. Measure it{own}: {command}."


def runtime_label(runtime: str) -> str:
    """Return the name of a runtime in messages."""
    found = registered_runtimes().get(runtime)
    return runtime if found is None else found.label


def explain_not_stored(
    engine: Engine, labels: Sequence[bool], scores: Sequence[float], threshold: Optional[float]
) -> Optional[str]:
    """Return why a measured threshold must not be stored with its engine; None if it may be stored.

    The text also names the threshold of an earlier `eval`, which the engine keeps.

    Args:
        engine: the engine that was measured.
        labels: True for a defective image.
        scores: score of each image.
        threshold: the threshold with the highest F1; None if there is none.
    """
    reason = _reason_not_stored(engine, labels, scores, threshold)
    earlier = engine.sidecar.threshold
    if reason is None or earlier is None:
        return reason
    return f"{reason}; the engine keeps its earlier threshold {earlier.score:.4g}"


def _reason_not_stored(
    engine: Engine, labels: Sequence[bool], scores: Sequence[float], threshold: Optional[float]
) -> Optional[str]:
    if threshold is None:
        return (
            f"all test images are {describe_single_class(labels)}, a threshold needs good and defective ones"
        )
    if runs_in_other_runtime(engine):
        own = runtime_label(engine.sidecar.runtime)
        return f"it was measured with {runtime_label(engine.runtime)}, the engine was built for {own}"
    if threshold <= min(scores):
        return "it calls every test image anomalous, so the scores do not separate good from defective images"
    return None
