"""What a reader must know of the figures: our conditions, and where the study's were others."""

from __future__ import annotations

from pathlib import Path
from typing import List

from adq_edge.study.config import DEMO, MethodConfig
from adq_edge.study.published import CPU, DATA, JETSON
from adq_edge.study.results import StudyResult


def caption(study: StudyResult, note: str = "", *, timed: bool = True, compared: bool = True) -> str:
    """Return a table's caption: data and devices, ours and the study's.

    Args:
        study: the study.
        note: what else belongs to this table.
        timed: whether it holds times.
        compared: whether it holds figures of the study.
    """
    ours = [_data(study), *(_devices(study) if timed else [])]
    theirs = [DATA, *([CPU, JETSON] if timed else [])] if compared else []
    lines = [f"ours: {'; '.join(ours)}", f"study: {'; '.join(theirs)}" if theirs else "", note]
    lines.extend(_caveats(study) if timed else [])
    return "\n".join(line for line in lines if line)


def notes(study: StudyResult) -> List[str]:
    """Return what holds for all tables, a sentence or two each."""
    config = study.config
    teacher = "torchvision's teachers"
    if config.teacher_weights is not None:
        name = Path(config.teacher_weights).name
        teacher = "the small demo teacher" if name == DEMO else f"teacher {name}"
    methods = "; ".join(f"{name}: {_trained(method)}" for name, method in config.methods.items())
    return [
        "The images are others than the study's: compare changes from FP32, not AUROCs.",
        f"Training: {teacher}, seed {config.seed}; {methods}.",
        "The study quantized its student alone: teacher in FP32, scoring in eager PyTorch, and these are in "
        "its times. Our engines hold teacher, student and scoring.",
        "Times are SingleStream, batch 1, the engine call only. The ratio to FP32 is that of the medians of "
        "two engines that were timed in turns, in one run. The study gave mean times alone.",
        "AUROC is the mean over the categories, of the very engine that was timed; where there is one for "
        "each category, the first is timed and all are evaluated.",
    ]


def _data(study: StudyResult) -> str:
    data, size = study.data, study.config.image_size
    name = "drawn images" if data.synthetic else Path(data.root).name
    train = sum(category.train for category in data.categories)
    test = sum(category.test for category in data.categories)
    return f"{name}, {len(data.categories)} categories, {train} + {test} images, {size}x{size}"


def _trained(method: MethodConfig) -> str:
    if method.finished:
        return "finished models"
    epochs = "the study's epochs" if method.epochs is None else f"{method.epochs} epochs"
    return ", ".join([epochs, *(f"{name} {value}" for name, value in method.options.items())])


def _devices(study: StudyResult) -> List[str]:
    found: List[str] = []
    for result in study.results:
        environment = result.environment
        machine = environment.board or f"{environment.cpu}, {environment.logical_cores} logical cores"
        found.append(f"{result.cell.device.value} {machine}, {result.runtime}")
    return list(dict.fromkeys(found))


def _caveats(study: StudyResult) -> List[str]:
    """Say of how many cells the times are not to be quoted, and why; the cells' files say it in full."""
    speeds = [result.speed for result in study.results if result.speed.caveat is not None]
    if not speeds:
        return []
    counts = {
        "quick runs": sum(speed.quick for speed in speeds),
        "a machine that was not quiet": sum(not speed.quiet for speed in speeds),
        "too short or not warm": sum(speed.quiet and not speed.quick for speed in speeds),
    }
    reasons = ", ".join(f"{reason} ({count})" for reason, count in counts.items() if count)
    return [f"not to be quoted, {len(speeds)} of {len(study.results)} cells: {reasons}"]
