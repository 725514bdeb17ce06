"""What a reader must know of the figures: our conditions, and where the study's were others."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List

from adq_edge.study.config import DEMO, MethodConfig
from adq_edge.study.published import CPU, DATA, JETSON, MVTEC_AD
from adq_edge.study.results import StudyResult

_MOST_NAMED = 3


def caption(study: StudyResult, note: str = "", *, timed: bool = True, compared: bool = True) -> str:
    """Return a table's caption: data and devices, ours and the study's.

    Args:
        study: the study.
        note: what else belongs to this table.
        timed: whether it holds times.
        compared: whether it holds figures of the study.
    """
    ours = [_data(study), *(study.machines if timed else [])]
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
        _comparable(study),
        f"Training: {teacher}, seed {config.seed}; {methods}.",
        "The study quantized its student alone: teacher in FP32, scoring in eager PyTorch, and these are in "
        "its times. Our engines hold teacher, student and scoring.",
        "Times are SingleStream, batch 1, the engine call only. The ratio to FP32 is that of the medians of "
        "two engines that were timed in turns, in one run. The study gave mean times alone.",
        "AUROC is the mean over the categories, of the very engine that was timed; where there is one for "
        "each category, the first is timed and all are evaluated.",
    ]


def _comparable(study: StudyResult) -> str:
    if study.data.synthetic or set(study.data.names) != set(MVTEC_AD):
        return "The images are others than the study's: compare changes from FP32, not AUROCs."
    return "The categories are MVTec AD's, as in the study; whether all images are was not looked at."


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


def _caveats(study: StudyResult) -> List[str]:
    """Say of how many cells the times are not to be quoted, and why; the cells' files say it in full."""
    doubtful = [result for result in study.results if result.speed.caveat is not None]
    if not doubtful:
        return []
    cells: Dict[str, List[str]] = {}
    for result in doubtful:
        for flag in result.speed.flags or ("see their files",):
            cells.setdefault(flag, []).append(result.cell.label)
    reasons = [f"{flag} ({_few(labels, len(doubtful))})" for flag, labels in cells.items()]
    return [f"not to be quoted, {len(doubtful)} of {len(study.results)} cells: {'; '.join(reasons)}"]


def _few(labels: List[str], whole: int) -> str:
    """Name the cells if they are few, and not all there are."""
    return ", ".join(labels) if len(labels) <= _MOST_NAMED and len(labels) < whole else str(len(labels))
