"""`train --find-fast`: the models that are fastest at each image AUROC, on the user's images and machine.

Points differ in the depth that student and teacher share, the student's width, the compared layers and the
size of the input. All students of a size are trained together, and all choices of layers are scored on the
same features. A short training of all students finds the promising ones, which are trained in full. INT8
engines of the best points are measured.
"""

from __future__ import annotations

import datetime
import os
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Sequence, Tuple, Union

from adq_edge.core.console import console
from adq_edge.core.errors import AdqError
from adq_edge.core.files import check_writable, write_bytes, write_together
from adq_edge.core.methods import PASTE
from adq_edge.core.text import number_of
from adq_edge.datasets.dataset import print_each_note_once, print_notes, read_dataset
from adq_edge.hardware.environment import read_environment
from adq_edge.models.feature_matching import STRIDE
from adq_edge.models.layers import join_layers, parse_layers
from adq_edge.models.paste_family import PaSTeFamily, Student
from adq_edge.report.render.markdown import markdown
from adq_edge.report.report import report, report_kind
from adq_edge.study.fast_engines import build_point, measure_points
from adq_edge.study.fast_folder import require_same_search
from adq_edge.study.fast_images import find_labeled_images
from adq_edge.study.fast_points import Point, ScoredPoint, choose_promising
from adq_edge.study.fast_results import FastSearch, engines_table
from adq_edge.study.fast_training import FastTraining, all_layers, all_students, step_seconds

FOLDER = Path("find-fast")
IMAGE_SIZES = (128, 192, 256)
RESULT_FILE = "find_fast.json"
MARKDOWN_FILE = "find_fast.md"
PAGE = "report.html"
_TITLE = "Fast models"
MOST_PROMISING = 8
MOST_ENGINES = 6
FIRST_ROUND = 6
"""The short trainings have this part of the epochs."""
_SECONDS_OF_AN_ENGINE = 60
_PASTED = "pasted"
_STEPS = 4


def find_fast(
    data: Union[str, Path],
    *,
    output: Union[str, Path] = FOLDER,
    categories: Optional[Sequence[str]] = None,
    teacher_weights: Optional[str] = None,
    image_sizes: Sequence[int] = IMAGE_SIZES,
    shared: Optional[str] = None,
    width: Optional[str] = None,
    layers: Optional[str] = None,
    epochs: int = PASTE.training.epochs,
    seed: int = 0,
    restart: bool = False,
) -> FastSearch:
    """Search the fastest model at each image AUROC, and build an INT8 engine of each.

    Another run with the same folder goes on where an interrupted one stopped. Checkpoints, bundles and
    engines stay in the folder, beside `find_fast.json`, `find_fast.md` and `report.html`. A run with other
    sizes, students, layers or epochs replaces these three files.

    Args:
        data: a dataset folder (layouts: `datasets.layouts`), or one category's folder.
        output: folder of the search.
        categories: the categories that each model learns; all by default.
        teacher_weights: see `adq_edge.models.teacher.teacher_file`.
        image_sizes: heights and widths of the input in pixels.
        shared: the only depth to try, `layer1` or `layer2`; both by default.
        width: the only width to try; all of `paste.WIDTHS` by default.
        layers: the only layers to compare, separated by commas; all choices by default.
        epochs: epochs of the promising models; all models are trained for a sixth of them first.
        seed: random seed.
        restart: True to train from the beginning even if checkpoints exist.

    Raises:
        AdqError: an option cannot be used, or a step failed.
        CheckpointError: a depth, width or layer is unknown; or a training of the search is in the folder
            with other images, another teacher or another seed.
        DataError: the dataset or an image cannot be used.
        StorageError: a file cannot be read or written.
    """
    _check(image_sizes, epochs)
    folder = Path(output)
    students = all_students(shared, width)
    chosen = all_layers() if layers is None else [join_layers(parse_layers(layers))]
    check_writable(folder / RESULT_FILE, FastSearch.kind())
    check_writable(folder / MARKDOWN_FILE, report_kind(f"# {_TITLE}"))
    check_writable(folder / PAGE, report_kind("<"))
    with print_each_note_once():
        dataset = read_dataset(Path(data), categories)
        print_notes(dataset)
        if not restart:
            require_same_search(folder, dataset, teacher_weights, seed)
        names = tuple(one.name for one in dataset.categories)
        labeled = find_labeled_images(dataset, folder / _PASTED, seed)
        training = FastTraining(dataset.root, names, folder, labeled, teacher_weights, seed, restart)
        sizes = sorted(set(image_sizes))
        return _search(training, len(dataset.train_images), sizes, students, chosen, epochs)


def _check(image_sizes: Sequence[int], epochs: int) -> None:
    if epochs < 1:
        raise AdqError("needs at least 1 epoch", where="--epochs")
    if not image_sizes:
        raise AdqError("needs at least one size", where="--image-size")
    for size in image_sizes:
        if size < STRIDE or size % STRIDE:
            raise AdqError(
                f"an input of {size} px does not suit PaSTe",
                where="--image-size",
                fix=f"Give a multiple of {STRIDE}",
            )


def _search(
    training: FastTraining,
    images: int,
    sizes: Sequence[int],
    students: Sequence[Student],
    layers: Sequence[str],
    epochs: int,
) -> FastSearch:
    started = _cpu_seconds()
    short = max(1, epochs // FIRST_ROUND)
    _print_cost(images, sizes, students, short, epochs)
    _begin(1, f"{number_of(short, 'epoch')} of {number_of(len(students), 'student')} at {_join(sizes)} px")
    first = _round(training, dict.fromkeys(sizes, students), layers, short)[1]
    promising = choose_promising(first, MOST_PROMISING)
    best: Dict[int, List[Student]] = {}
    for one in promising:
        student = Student(one.point.shared, one.point.width)
        if student not in best.setdefault(one.point.image_size, []):
            best[one.point.image_size].append(student)
    _begin(2, f"{number_of(epochs, 'epoch')} of the promising students at {_join(sorted(best))} px")
    families, second = _round(training, best, layers, epochs)
    chosen = choose_promising(second, MOST_ENGINES)
    _begin(3, f"INT8 engines of {number_of(len(chosen), 'model')}")
    built = [build_point(training, families[one.point.image_size], one) for one in chosen]
    _begin(4, "AUROC and latency of the engines")
    measured = measure_points(training, built, epochs)
    result = FastSearch(
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        data=str(training.data.resolve()),
        categories=training.categories,
        test_images=len(training.labeled.samples),
        pasted=training.labeled.pasted,
        seed=training.seed,
        engines=tuple(measured.engines),
        first_round=tuple(first),
        second_round=tuple(second),
        caveat=measured.caveat,
        cpu_minutes=(_cpu_seconds() - started) / 60,
        environment=read_environment(),
    )
    _write(training.folder, result, measured.files)
    return result


def _round(
    training: FastTraining, students: Mapping[int, Sequence[Student]], layers: Sequence[str], epochs: int
) -> Tuple[Dict[int, PaSTeFamily], List[ScoredPoint]]:
    """Train the students of each size, and score all their points."""
    families, scored = {}, []
    for size, chosen in students.items():
        families[size] = training.train(size, chosen, epochs)
        scored += training.score(families[size], layers, epochs)
    return families, scored


def _print_cost(
    images: int, sizes: Sequence[int], students: Sequence[Student], short: int, epochs: int
) -> None:
    """Print the CPU time of the search, measured on one training step."""
    pixels = images * sum(size * size for size in sizes)
    step = step_seconds(sizes[0], students)
    seconds = step * pixels * short
    longest = seconds + step * pixels * epochs / 2 + _SECONDS_OF_AN_ENGINE * MOST_ENGINES
    console.print(
        f"about {longest / 60:.0f} minutes of CPU time (estimate), {seconds / 60:.0f} of them for the first "
        "step; the same command goes on with an interrupted search",
        soft_wrap=True,
    )


def _begin(number: int, name: str) -> None:
    console.print(f"step {number} of {_STEPS}: {name}", soft_wrap=True)


def _join(sizes: Sequence[int]) -> str:
    return ", ".join(map(str, sizes))


def _cpu_seconds() -> float:
    """Return the CPU time of this process and its finished child processes in s."""
    return sum(os.times()[:4])


def _write(folder: Path, result: FastSearch, files: Sequence[Path]) -> None:
    front = [describe(one.point, one.p50_ms, one.auroc) for one in result.front]
    text = markdown(_TITLE, front, [engines_table(result)])
    with write_together():
        result.write(folder / RESULT_FILE)
        write_bytes(folder / MARKDOWN_FILE, text.encode("utf-8"), report_kind(text))
    report(list(files), folder / PAGE)  # those of an earlier search are left out


def describe(point: Point, p50_ms: float, auroc: float) -> str:
    """Return a point and its figures in words."""
    return (
        f"{p50_ms:.2f} ms, image AUROC {auroc:.4f}: {point.image_size} px, shared {point.shared}, width "
        f"{point.width}, {point.layers}"
    )
