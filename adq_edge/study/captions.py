"""Notes of the tables: the conditions of our figures and of the published figures."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List, Tuple

from adq_edge.core.text import number_of
from adq_edge.study.config import DEMO, MethodConfig
from adq_edge.study.published import CPU, DATA, JETSON, MVTEC_AD
from adq_edge.study.results import StudyResult

_MOST_NAMED = 3


def caption(
    study: StudyResult, note: str = "", *, timed: bool = True, compared: bool = True
) -> Tuple[str, ...]:
    """Return a table's notes: data, devices (if `timed`), published conditions (if `compared`), `note`."""
    ours = [_data(study), *(study.machines if timed else [])]
    theirs = [DATA, *([CPU, JETSON] if timed else [])] if compared else []
    lines = [f"ours: {'; '.join(ours)}", f"published: {'; '.join(theirs)}" if theirs else "", note]
    return tuple(filter(None, [*lines, *(_caveats(study) if timed else [])]))


def notes(study: StudyResult) -> List[str]:
    """Return the notes on all tables, a sentence or two each."""
    config = study.config
    teacher = "torchvision's teachers"
    if config.teacher_weights is not None:
        name = Path(config.teacher_weights).name
        teacher = "the small demo teacher" if name == DEMO else f"teacher {name}"
    methods = "; ".join(f"{name}: {_training(method)}" for name, method in config.methods.items())
    return [
        _comparable(study),
        f"Training: {teacher}, seed {config.seed}; {methods}.",
        "The published study quantized its student alone. Its times include a teacher in FP32 and scoring in "
        "eager PyTorch. Our engines contain teacher, student and scoring.",
        "Times are SingleStream, batch 1, the engine call only. The ratio to FP32 compares the medians of "
        "two engines that were timed in turns, in one run. Only mean times were published.",
        "AUROC is the mean over the categories, of the same engine that was timed. With one engine for each "
        "category, the first is timed and all are evaluated.",
    ]


def _comparable(study: StudyResult) -> str:
    if study.data.synthetic or set(study.data.names) != set(MVTEC_AD):
        return "The images differ from those of the published study: compare changes from FP32, not AUROCs."
    return "The categories are those of MVTec AD, as in the published study; the images were not compared."


def _data(study: StudyResult) -> str:
    data, size = study.data, study.config.image_size
    name = "drawn images" if data.synthetic else Path(data.root).name
    train = sum(category.train for category in data.categories)
    test = sum(category.test for category in data.categories)
    return f"{name}, {number_of(len(data.categories), 'category')}, {train} + {test} images, {size}x{size}"


def _training(method: MethodConfig) -> str:
    if method.finished:
        return "finished models"
    epochs = "published epochs" if method.epochs is None else number_of(method.epochs, "epoch")
    return ", ".join([epochs, *(f"{name} {value}" for name, value in method.options.items())])


def _caveats(study: StudyResult) -> List[str]:
    """Return the number of cells whose times are not to be quoted, with short reasons."""
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
    """Return the cells' labels if they are few and not all, else their number."""
    return ", ".join(labels) if len(labels) <= _MOST_NAMED and len(labels) < whole else str(len(labels))
