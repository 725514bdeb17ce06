"""Letters and digits as strokes.

Unlike OpenCV's fonts, strokes can be rotated with the product and do not change between releases.
"""

from __future__ import annotations

from typing import Dict, List, Tuple

import numpy as np

from adq_edge.datasets.painting import rotation

_STROKES: Dict[str, Tuple[Tuple[Tuple[float, float], ...], ...]] = {
    "A": (((0, 1), (0.35, 0), (0.7, 1)), ((0.15, 0.65), (0.55, 0.65))),
    "D": (((0, 0), (0.4, 0), (0.65, 0.25), (0.65, 0.75), (0.4, 1), (0, 1), (0, 0)),),
    "Q": (
        ((0.2, 0), (0.5, 0), (0.7, 0.3), (0.7, 0.7), (0.5, 1), (0.2, 1), (0, 0.7), (0, 0.3), (0.2, 0)),
        ((0.45, 0.75), (0.75, 1.08)),
    ),
    "0": (
        ((0.2, 0), (0.45, 0), (0.65, 0.3), (0.65, 0.7), (0.45, 1), (0.2, 1), (0, 0.7), (0, 0.3), (0.2, 0)),
    ),
    "1": (((0.1, 0.22), (0.35, 0), (0.35, 1)),),
    "2": (((0, 0.2), (0.2, 0), (0.45, 0), (0.62, 0.25), (0, 1), (0.65, 1)),),
    "3": (((0, 0), (0.6, 0), (0.28, 0.4), (0.6, 0.62), (0.55, 0.9), (0.3, 1), (0, 0.88)),),
    "4": (((0.5, 1), (0.5, 0), (0, 0.68), (0.68, 0.68)),),
    "5": (((0.6, 0), (0.08, 0), (0.02, 0.42), (0.4, 0.38), (0.62, 0.62), (0.5, 0.95), (0, 1)),),
    "8": (
        ((0.3, 0.46), (0.08, 0.25), (0.3, 0), (0.55, 0.22), (0.3, 0.46)),
        ((0.3, 0.46), (0.62, 0.75), (0.3, 1), (0, 0.75), (0.3, 0.46)),
    ),
}

_ADVANCE = 0.95


def letter_strokes(text: str, height: float) -> List[List[np.ndarray]]:
    """Return the strokes `[N, 2]` of each character, `height` units tall, the text centered on the origin."""
    width = (len(text) - 1) * _ADVANCE + 0.65
    letters = []
    for place, letter in enumerate(text):
        origin = np.array([place * _ADVANCE - width / 2, -0.5])
        letters.append([(np.asarray(stroke) + origin) * height for stroke in _STROKES[letter]])
    return letters


def misprint(
    letters: List[List[np.ndarray]], rng: np.random.Generator, strength: float
) -> List[List[np.ndarray]]:
    """Return the letters moved, turned, doubled or incomplete."""
    manner = rng.choice(["moved", "turned", "doubled", "incomplete"])
    if manner == "incomplete":
        kept = rng.permutation(len(letters))[: max(0, len(letters) - int(rng.integers(1, 3)))]
        return [letters[place] for place in sorted(kept)]
    move = rng.choice([-1.0, 1.0], 2) * rng.uniform(2.5, 6.0, 2) * strength
    if manner == "turned":
        turn = rotation(rng.choice([-1.0, 1.0]) * rng.uniform(0.15, 0.4) * strength)
        return [[stroke @ turn for stroke in letter] for letter in letters]
    moved = [[stroke + move for stroke in letter] for letter in letters]
    return moved if manner == "moved" else letters + moved
