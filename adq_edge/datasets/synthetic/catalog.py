"""The 15 categories with their kinds of defects, and the rendering of one sample."""

from __future__ import annotations

import enum
from typing import Callable, Dict, Optional, Sequence, Tuple

import cv2
import numpy as np

from adq_edge.core.errors import DataError
from adq_edge.datasets.synthetic import electronics, hardware, products, textures
from adq_edge.datasets.synthetic.canvas import UNITS, Layers
from adq_edge.datasets.synthetic.defects import SURFACE_DEFECTS, damage
from adq_edge.datasets.synthetic.fault import Fault
from adq_edge.datasets.synthetic.photograph import digitize, expose, random_shot, sensor_noise

Painter = Callable[[np.random.Generator, int, Optional[Fault]], Layers]

_CATALOG: Dict[str, Tuple[Painter, Tuple[str, ...]]] = {
    "bolt": (hardware.bolt, ("bent", "dent", "missing_part", "scratch", "stain")),
    "bottle": (products.bottle, ("crack", "fibre", "missing_part", "scratch", "stain")),
    "brushed_metal": (textures.brushed_metal, ("dent", "discoloration", "hole", "scratch", "stain")),
    "cable": (hardware.cable, ("bent", "hole", "missing_part", "scratch", "swap")),
    "capsule": (products.capsule, ("crack", "dent", "hole", "misprint", "scratch")),
    "circuit_board": (
        electronics.circuit_board,
        ("bent", "misplaced", "misprint", "missing_part", "scratch", "stain", "swap"),
    ),
    "gear": (hardware.gear, ("bent", "crack", "missing_part", "scratch", "stain")),
    "leather": (textures.leather, ("discoloration", "fibre", "hole", "scratch", "stain")),
    "nut": (hardware.nut, ("crack", "dent", "missing_part", "scratch", "stain")),
    "tablet": (products.tablet, ("crack", "discoloration", "misprint", "missing_part", "stain")),
    "terrazzo": (textures.terrazzo, ("crack", "discoloration", "hole", "scratch", "stain")),
    "toothbrush": (products.toothbrush, ("bent", "discoloration", "fibre", "missing_part", "stain")),
    "weave": (textures.weave, ("discoloration", "fibre", "hole", "missing_part", "stain")),
    "wood": (textures.wood, ("crack", "dent", "hole", "scratch", "stain")),
    "zipper": (hardware.zipper, ("bent", "discoloration", "fibre", "hole", "missing_part")),
}

CATEGORIES: Tuple[str, ...] = tuple(_CATALOG)
"""The names of the 15 categories."""

DEFECTS: Tuple[str, ...] = tuple(sorted({kind for _, kinds in _CATALOG.values() for kind in kinds}))
"""The names of all kinds of defect."""

_CHANGED = 4.0 / 255.0  # a smaller difference is hidden by the sensor's noise
_VISIBLE_MEAN = 11.0 / 255.0  # least mean difference of a visible defect
_VISIBLE_AREA = 45.0  # least area of a visible defect in square units
_ATTEMPTS = 8
_STRONGER = 1.2


class Split(str, enum.Enum):
    """The part of the set that a sample belongs to; each has its own numbering."""

    TRAIN = "train"
    GOOD = "good"
    DEFECTIVE = "defective"


_SCENE, _SHOT, _NOISE, _FAULT = range(4)  # purposes of random numbers, part of their seed


def defects_of(category: str) -> Tuple[str, ...]:
    """Return the kinds of defects that a category can have.

    Raises:
        DataError: the category is unknown.
    """
    check_categories([category])
    return _CATALOG[category][1]


def check_categories(names: Sequence[str]) -> None:
    """Check the names of categories.

    Raises:
        DataError: an unknown name.
    """
    for name in names:
        if name not in _CATALOG:
            raise DataError(
                f"no synthetic category named {name!r}", fix=f"Use one of: {', '.join(CATEGORIES)}"
            )


def render(
    category: str,
    seed: int,
    index: int,
    size: int = 256,
    defect: Optional[str] = None,
    split: Split = Split.DEFECTIVE,
) -> Tuple[np.ndarray, np.ndarray]:
    """Render one sample.

    The same arguments give the same bytes; another release of OpenCV may round some pixels differently.
    The image with a defect and the image without (its sound twin) differ exactly where the mask is True.

    Args:
        category: a name in `CATEGORIES`.
        seed: the set's seed, 0 or more.
        index: the sample's number in its split.
        size: width and height in pixels.
        defect: a kind that the category can have; None for a sound product.
        split: the sample's split.

    Returns:
        The image uint8 `[size, size, 3]` RGB, and the mask bool `[size, size]`.

    Raises:
        DataError: the category is unknown, or it cannot have this defect.
    """
    kinds = defects_of(category)
    if defect is not None and defect not in kinds:
        raise DataError(f"{category} has no defect named {defect!r}", fix=f"Use one of: {', '.join(kinds)}")
    sample = (seed, CATEGORIES.index(category), tuple(Split).index(split), index)

    def rng(purpose: int, attempt: int = 0) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence(sample, spawn_key=(purpose, attempt)))

    def draw(fault: Fault) -> Layers:
        if fault.kind not in SURFACE_DEFECTS:
            return painter(rng(_SCENE), size, fault)
        defective = layers.copy()
        damage(defective, fault)
        return defective

    painter = _CATALOG[category][0]
    layers = painter(rng(_SCENE), size, None)
    shot = random_shot(rng(_SHOT))
    sound = expose(layers, shot)
    noise = sensor_noise(rng(_NOISE), sound, shot)
    image = digitize(sound + noise)
    if defect is None:
        return image, np.zeros((size, size), bool)
    broken, mask = sound, np.zeros((size, size), bool)
    for attempt in range(_ATTEMPTS):
        broken = expose(draw(Fault(defect, rng(_FAULT, attempt), _STRONGER**attempt)), shot)
        difference = _largest_difference(broken, sound)
        mask = difference > _CHANGED
        if _is_visible(difference, mask):
            break
    defective = image.copy()
    defective[mask] = digitize(broken + noise)[mask]
    return defective, _largest_difference(defective, image) > 0


def _largest_difference(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the largest difference over the channels of two images, `[H, W]`."""
    red, green, blue = cv2.split(cv2.absdiff(first, second))
    return np.asarray(np.maximum(np.maximum(red, green), blue))


def _is_visible(difference: np.ndarray, mask: np.ndarray) -> bool:
    area = np.count_nonzero(mask)
    if area * (UNITS / mask.shape[0]) ** 2 < _VISIBLE_AREA:
        return False
    return float(difference[mask].mean()) >= _VISIBLE_MEAN
