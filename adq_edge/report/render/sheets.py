"""Images of heat maps inside the page, cut from the sheets beside the results of `eval` and `compare`."""

from __future__ import annotations

import base64
import itertools
from pathlib import Path
from typing import Iterator, List, NamedTuple, Sequence, Tuple, Union

import numpy as np

from adq_edge.core.errors import AdqError
from adq_edge.core.images.imaging import encode_jpeg, read_image, resize_image
from adq_edge.core.text import number_of
from adq_edge.evaluation.compare import Comparison
from adq_edge.evaluation.evaluate import Evaluation
from adq_edge.evaluation.evaluation_sheet import (
    cut_evaluation_sheet,
    describe_image,
    is_error,
    name_image,
    show_score,
)
from adq_edge.evaluation.heat_map_sheets import cut_comparison_sheet
from adq_edge.metrics.agreement import ImageAgreement
from adq_edge.report.labels import distinguish, engine_details
from adq_edge.report.phrasing import precision_name

IMAGE_BYTES = 800_000
"""Largest size of all images of a page, as base64 text."""
_MOST_OF_A_SHEET = 6
_LARGEST_CELL = 30_000
"""Bytes of one image as JPEG."""
_WHOLE_SHEET = (800, 3000)
"""Largest width and height in pixels of a sheet that is not cut."""
_CELL = 160

SheetSource = Tuple[Union[Evaluation, Comparison], Path]
"""A result and its sheet."""


class HeatMap(NamedTuple):
    """One image of a sheet as JPEG in base64; `width` and `height` in pixels.

    Attributes:
        word: what it is, in one to three words.
        name: the name of the image.
        figures: its scores.
        is_error: True if it was judged wrongly, or its decision changes.
        alt: what a reader hears who cannot see it.
    """

    data: str
    width: int
    height: int
    word: str
    name: str
    figures: str
    is_error: bool
    alt: str


class Sheet(NamedTuple):
    """The images of one sheet that the page shows, and what they show from left to right."""

    title: str
    note: str
    heat_maps: Tuple[HeatMap, ...]


class Sheets(NamedTuple):
    """The sheets of a page; `note` says what was left out, empty if nothing was."""

    sheets: Tuple[Sheet, ...]
    note: str


def embed_sheets(sources: Sequence[SheetSource], budget: int = IMAGE_BYTES) -> Sheets:
    """Return the images of all sheets that fit a page, the same number of each sheet as far as possible.

    A sheet that cannot be read is left out: a report does not depend on it.

    Args:
        sources: the results and their sheets.
        budget: the largest size of all images, in bytes of base64 text.
    """
    found = [
        (record, list(itertools.islice(_heat_maps(record, path), _MOST_OF_A_SHEET)))
        for record, path in sorted(sources, key=lambda source: isinstance(source[0], Comparison))
    ]
    found = [(record, images) for record, images in found if images]
    counts = _count_fitting([[len(one.data) for one in images] for _, images in found], budget)
    shown, total = sum(counts), sum(len(record.sheet_images) for record, _ in found)
    note = f"{shown} of {number_of(total, 'image')}. The sheets beside the results have all."
    titles = distinguish([_details(record) for record, _ in found])
    sheets = tuple(
        Sheet(title, _note(record), tuple(images[:count]))
        for title, (record, images), count in zip(titles, found, counts)
        if count
    )
    return Sheets(sheets, note if shown < total else "")


def _count_fitting(sizes: Sequence[Sequence[int]], budget: int) -> List[int]:
    """Return how many images of each sheet fit: one of each sheet in turns, as long as a whole turn fits."""
    counts, used = [0] * len(sizes), 0
    for turn in range(_MOST_OF_A_SHEET):
        found = [number for number, images in enumerate(sizes) if turn < len(images)]
        if turn and used + sum(sizes[number][turn] for number in found) > budget:
            break
        for number in found:
            if used + sizes[number][turn] <= budget and counts[number] == turn:
                used += sizes[number][turn]
                counts[number] += 1
    return counts


def _details(record: Union[Evaluation, Comparison]) -> Tuple[str, ...]:
    if isinstance(record, Evaluation):
        return engine_details(record.engine.name, record.precision, record.runtime, data=record.data)
    sides = record.engine_a, record.engine_b
    a, b = (engine_details(one.engine.name, one.precision, one.runtime, data=record.data) for one in sides)
    return (f"{a[0]} and {b[0]}", *(" and ".join(dict.fromkeys(pair)) for pair in zip(a[1:], b[1:])))


def _note(record: Union[Evaluation, Comparison]) -> str:
    if isinstance(record, Evaluation):
        own = "Red is the threshold of the product's map; its score has another."
        red = own if record.decisions else "Red is the threshold, or the highest value above it."
        return f"The image, the true defect outlined, beside its heat map. {red}"
    a, b = _side_names(record)
    return (
        f"Above: the image, the true defect outlined, and the heat map of {a}. Below: the heat map of {b}, "
        "and the difference, whose red is its largest value."
    )


def _heat_maps(record: Union[Evaluation, Comparison], path: Path) -> Iterator[HeatMap]:
    """Yield the images of a sheet, the most telling first; one for a sheet of unknown layout."""
    try:
        sheet = read_image(path)
    except AdqError:
        return
    if isinstance(record, Evaluation):
        cells = cut_evaluation_sheet(sheet, len(record.sheet_images))
        found = None if cells is None else _evaluated(record, cells)
    else:
        rows = cut_comparison_sheet(sheet, len(record.sheet_images))
        found = None if rows is None else _compared(record, rows)
    yield from [_whole_sheet(sheet, path)] if found is None else found


def _evaluated(record: Evaluation, cells: Sequence[np.ndarray]) -> Iterator[HeatMap]:
    scores = {score.image: score for score in record.scores}
    threshold = None if record.decisions else record.threshold
    for image, cell in zip(record.sheet_images, cells):
        if image in scores:
            score = scores[image]
            word, name, figure = describe_image(score, threshold), name_image(score), show_score(score)
            alt = f"{word}, {name}: image and heat map, score {figure}"
            yield _embed(cell, word, name, f"score {figure}", is_error(score, threshold), alt)


def _compared(record: Comparison, rows: Sequence[Sequence[np.ndarray]]) -> Iterator[HeatMap]:
    """Yield the rows of a sheet: the worst, the best, then the others from the worst on."""
    agreements = {one.image: one for one in record.images}
    known = [pair for pair in zip(record.sheet_images, rows) if pair[0] in agreements]
    names = _side_names(record)
    for image, (_, outlined, map_a, map_b, difference) in [*known[:1], *known[:0:-1][:1], *known[1:-1]]:
        one = agreements[image]
        word = "decision changes" if one.flips else "same decision" if one.anomalous_a is not None else ""
        name = f"{one.category}/{one.defect}/{Path(one.image).name}"
        above, below = np.concatenate([outlined, map_a], 1), np.concatenate([map_b, difference], 1)
        block = resize_image(np.concatenate([above, below]), (2 * _CELL, 2 * _CELL))
        figures = _compared_scores(one, names)
        shown = f"image, heat maps of {names[0]} and {names[1]}, and their difference"
        alt = f"{', '.join(filter(None, (word, name)))}: {shown}"
        yield _embed(block, word, name, figures, one.flips, alt)


def _compared_scores(image: ImageAgreement, names: Sequence[str]) -> str:
    scores = f"{names[0]} {image.score_a:.4g}, {names[1]} {image.score_b:.4g}"
    relative = image.relative_difference
    return scores if relative is None else f"{scores} ({100 * relative:+.1f} %)"


def _side_names(record: Comparison) -> Tuple[str, str]:
    """Return short names of both engines: their number formats, or A and B with equal ones."""
    a, b = (precision_name(side.precision) for side in (record.engine_a, record.engine_b))
    return (a, b) if a != b else ("A", "B")


def _whole_sheet(sheet: np.ndarray, path: Path) -> HeatMap:
    scale = min(1.0, _WHOLE_SHEET[0] / sheet.shape[1], _WHOLE_SHEET[1] / sheet.shape[0])
    small = resize_image(
        sheet, (max(1, round(sheet.shape[0] * scale)), max(1, round(sheet.shape[1] * scale)))
    )
    return _embed(small, "", path.name, "", False, f"sheet of heat maps {path.name}", 8 * _LARGEST_CELL)


def _embed(
    image: np.ndarray,
    word: str,
    name: str,
    figures: str,
    wrong: bool,
    alt: str,
    largest: int = _LARGEST_CELL,
) -> HeatMap:
    data = base64.b64encode(encode_jpeg(np.ascontiguousarray(image), largest)).decode("ascii")
    return HeatMap(data, image.shape[1], image.shape[0], word, name, figures, wrong, alt)
