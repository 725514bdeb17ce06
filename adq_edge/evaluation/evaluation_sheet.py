"""The sheet of `eval`: clear defects, weak defects and high good images, each beside its heat map."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import cv2
import numpy as np

from adq_edge.core.console import print_detail
from adq_edge.core.errors import AdqError
from adq_edge.core.images.imaging import overlay, read_image, resize_image
from adq_edge.datasets.dataset import GOOD, Sample
from adq_edge.decision.inspector import Inspector, Verdict
from adq_edge.evaluation.overlays import outline_defect, product_colors
from adq_edge.evaluation.sensitivity_plot import shorten_name
from adq_edge.runtimes.base import Engine
from adq_edge.runtimes.single_image import run_engine

if TYPE_CHECKING:
    from adq_edge.evaluation.evaluate import ImageScore

MOST_IMAGES = 12
LARGEST_SHEET = 300_000
"""Largest size of the file, in bytes."""
_COLUMNS, _STRIP = 3, 20
_CELL = (160, 160)
_PLACE = (_STRIP + _CELL[0], 2 * _CELL[1])
"""Height and width of an image and its heat map below their caption."""
_NAME_LENGTH = 32


class EvaluationSheet(NamedTuple):
    """A sheet, uint8 `[H, W, 3]` RGB, and the image files on it, row by row."""

    drawing: np.ndarray
    images: Tuple[str, ...]


def draw_evaluation_sheet(
    scores: Sequence[ImageScore],
    samples: Mapping[str, Sample],
    engine: Engine,
    inspector: Optional[Inspector],
    threshold: Optional[float],
) -> Optional[EvaluationSheet]:
    """Draw the images that tell most about an engine; None if there is none.

    With products, blue is the median of good images and red the threshold of the product's map. Without
    them, red is the threshold or the largest value of the map, whichever is higher.

    Args:
        scores: the measured images.
        samples: the test images by their path.
        engine: the engine.
        inspector: the engine with its products; None without products.
        threshold: the threshold of all images, which only an engine without products has.
    """
    places, names = [], []
    for score in choose_images(scores, threshold):
        try:
            cells = _draw_cells(samples[score.image], score, engine, inspector, threshold)
        except AdqError as problem:  # the figures do not depend on the sheet
            print_detail(f"not on the sheet: {problem}")
            continue
        places.append(np.concatenate([_caption(score, threshold), cells]))
        names.append(score.image)
    if not places:
        return None
    places += [np.full_like(places[0], 255)] * (-len(places) % _COLUMNS)
    rows = [np.concatenate(places[start : start + _COLUMNS], 1) for start in range(0, len(places), _COLUMNS)]
    return EvaluationSheet(np.concatenate(rows), tuple(names))


def choose_images(scores: Sequence[ImageScore], threshold: Optional[float]) -> List[ImageScore]:
    """Return at most `MOST_IMAGES` images: of each product in turns, those that tell most.

    These are the defect with the highest score, the defect with the lowest one and the good image with the
    highest one, then the next three. The products with the most errors come first.
    """
    has_products = any(score.product_score is not None for score in scores)
    groups: Dict[str, List[ImageScore]] = {}
    for score in scores:
        if not has_products or score.product_score is not None:
            groups.setdefault(score.product or score.category, []).append(score)
    order = sorted(groups.values(), key=lambda group: -sum(is_error(one, threshold) for one in group))
    turns = itertools.zip_longest(*map(_rank, order), fillvalue=())
    found = (score for turn in turns for some in turn for score in some)
    return list({score.image: score for score in found}.values())[:MOST_IMAGES]


def _rank(scores: Sequence[ImageScore]) -> Iterator[Tuple[ImageScore, ...]]:
    """Yield a clear defect, a weak defect and a high good image of a product, the most telling first."""
    highest = sorted(scores, key=_value, reverse=True)
    defects = [score for score in highest if score.defect != GOOD]
    good = [score for score in highest if score.defect == GOOD]
    half = (len(defects) + 1) // 2  # no image is both a clear and a weak defect
    for some in itertools.zip_longest(defects[:half], defects[half:][::-1], good):
        yield tuple(score for score in some if score is not None)


def _value(score: ImageScore) -> float:
    return score.score if score.product_score is None else score.product_score


def is_rejected(score: ImageScore, threshold: Optional[float]) -> Optional[bool]:
    """Return True for an image that is not judged good; None without verdict and threshold."""
    if score.verdict is not None:
        return score.verdict is not Verdict.GOOD
    return None if threshold is None else score.score >= threshold


def is_error(score: ImageScore, threshold: Optional[float]) -> bool:
    """Return True for a missed defect and for a false reject."""
    rejected = is_rejected(score, threshold)
    return rejected is not None and rejected is (score.defect == GOOD)


def describe_image(score: ImageScore, threshold: Optional[float]) -> str:
    """Return what an image is and how it was judged, in one to three words."""
    is_good, rejected = score.defect == GOOD, is_rejected(score, threshold)
    if rejected is None:
        return "good image" if is_good else "defect"
    if rejected:
        return "false reject" if is_good else "defect found"
    return "accepted" if is_good else "missed defect"


def name_image(score: ImageScore) -> str:
    """Return category, kind of defect and file name of an image."""
    return f"{score.category}/{score.defect}/{Path(score.image).name}"


def show_score(score: ImageScore) -> str:
    """Return the score that an image is judged by."""
    return f"{_value(score):.4g}"


def cut_evaluation_sheet(sheet: np.ndarray, count: int) -> Optional[List[np.ndarray]]:
    """Return each image beside its heat map, without captions; None if a sheet of `count` differs in size."""
    height, width = _PLACE
    if sheet.shape[:2] != (height * -(-count // _COLUMNS), width * _COLUMNS):
        return None
    corners = [(height * (number // _COLUMNS), width * (number % _COLUMNS)) for number in range(count)]
    return [sheet[top + _STRIP : top + height, left : left + width] for top, left in corners]


def _draw_cells(
    sample: Sample,
    score: ImageScore,
    engine: Engine,
    inspector: Optional[Inspector],
    threshold: Optional[float],
) -> np.ndarray:
    """Return an image with its outlined defect beside its heat map."""
    original = read_image(sample.path)
    image = resize_image(original, _CELL)
    if inspector is None:
        shown = run_engine(engine, original, sample.path).maps[0]
        high = float(shown.max()) if threshold is None else max(float(shown.max()), threshold)
        colored = overlay(image, shown, 0.0, high)
    else:
        colored = overlay(image, *product_colors(inspector.inspect(original, product=score.product)))
    return np.concatenate([outline_defect(image, original, sample), colored], 1)


def _caption(score: ImageScore, threshold: Optional[float]) -> np.ndarray:
    strip = np.full((_STRIP, _PLACE[1], 3), 255, np.uint8)
    name = shorten_name(name_image(score), _NAME_LENGTH)
    text = f"{describe_image(score, threshold)} {show_score(score)}  {name}"
    cv2.putText(strip, text, (3, _STRIP - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.36, (0, 0, 0), 1, cv2.LINE_AA)
    return strip
