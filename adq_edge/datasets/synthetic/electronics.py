"""A circuit board: a chip, resistors, capacitors, traces and pads."""

from __future__ import annotations

from typing import List, Optional, Tuple

import numpy as np

from adq_edge.datasets.painting import rotation
from adq_edge.datasets.synthetic.canvas import Layers, Material, Pen, Pose, rectangle, smooth_noise
from adq_edge.datasets.synthetic.fault import Fault
from adq_edge.datasets.synthetic.lettering import letter_strokes, misprint

_SOLDER = Material((190, 192, 190), 0.45)
_SILK = Material((214, 218, 206), 0.05)
_PARTS: Tuple[Tuple[float, float, str], ...] = (
    (-92, -84, "resistor"), (-92, -50, "capacitor"), (-92, 4, "resistor"), (-92, 40, "resistor"),
    (-92, 84, "capacitor"), (94, -84, "capacitor"), (94, -46, "resistor"), (94, -8, "capacitor"),
    (94, 34, "resistor"), (94, 82, "resistor"), (-40, -92, "resistor"), (10, -92, "resistor"),
    (-36, 92, "capacitor"), (24, 92, "resistor"),
)  # fmt: skip
_PINS = 8
_PIN_PITCH = 12.6


def circuit_board(rng: np.random.Generator, size: int, fault: Optional[Fault]) -> Layers:
    """Draw a board; a part can be missing, swapped or turned, a pin bent, or the chip misprinted."""
    mask = Material((28, 96, 62), 0.22).tinted(rng, 8.0)
    pen = Pen(size, Pose.random(rng, 3.0, shift=4.0, scale=0.02), mask)
    _traces(pen, Material((44, 124, 82), 0.25).tinted(rng, 5.0))
    faulty = -1 if fault is None else int(fault.rng.integers(0, len(_PARTS)))
    for number, (x, y, kind) in enumerate(_PARTS):
        offset = rng.uniform(-1.2, 1.2, 2)
        tints = (rng.uniform(-6.0, 6.0), rng.uniform(-9.0, 9.0))
        part_fault = fault if number == faulty else None
        _part(pen, (x + offset[0], y + offset[1]), kind, tints, part_fault)
    _chip(pen, rng, fault)
    layers = pen.develop(bevel=0.9)
    layers.region = np.ones((size, size), np.float32)
    glass = smooth_noise(rng, size, (size // 3, size // 3))
    layers.tone(1.0 + 0.025 * glass + 0.02 * smooth_noise(rng, size, (4, 4)))
    return layers


def _traces(pen: Pen, copper: Material) -> None:
    for pin in range(_PINS):
        y = (pin - (_PINS - 1) / 2) * _PIN_PITCH
        for side in (-1.0, 1.0):
            bend = y * 1.55
            path = np.array([[44.0, y], [58.0, y], [70.0, bend], [150.0, bend]]) * [side, 1.0]
            pen.stroke(path, 3.2, copper, 0.5)
    for x in (-62.0, -15.0, 35.0, 60.0):
        pen.stroke(np.array([[x, -150.0], [x, -104.0], [x * 0.6, -78.0], [x * 0.6, -66.0]]), 3.2, copper, 0.5)
        pen.stroke(np.array([[x, 150.0], [x, 106.0], [x * 0.6, 80.0], [x * 0.6, 68.0]]), 3.2, copper, 0.5)
    for x, y in ((-66, -70), (66, -68), (-68, 66), (68, 64), (-64, 20), (64, -26)):
        pen.disc((x, y), 4.6, _SOLDER, 0.8)
        pen.disc((x, y), 2.0, Material((20, 24, 22), 0.0), 0.0)


def _part(
    pen: Pen, center: Tuple[float, float], kind: str, tints: Tuple[float, float], fault: Optional[Fault]
) -> None:
    """Draw a part with two ends on its pads; `tints` are the gray levels added to ends and body."""
    x, y = center
    for side in (-1.0, 1.0):
        pen.polygon(rectangle(x + side * 13 - 6, y - 8.5, x + side * 13 + 6, y + 8.5), _SOLDER, 1.0)
    if fault is not None and fault.kind == "missing_part":
        return
    turn = 0.0
    if fault is not None and fault.kind == "swap":
        kind = "capacitor" if kind == "resistor" else "resistor"
    elif fault is not None and fault.kind == "misplaced":
        turn = fault.rng.choice([-1.0, 1.0]) * fault.rng.uniform(0.25, 0.8) * fault.strength
    matrix = rotation(turn)
    red, green, blue = (30, 30, 32) if kind == "resistor" else (164, 128, 92)
    end, body = 186 + tints[0], tints[1]
    outline = rectangle(-15.0, -7.2, 15.0, 7.2) @ matrix + [x, y]
    pen.polygon(outline, Material((end, end, end - 4), 0.5), 6.0)
    outline = rectangle(-10.0, -7.2, 10.0, 7.2) @ matrix + [x, y]
    pen.polygon(outline, Material((red + body, green + body, blue + body), 0.2), 6.8)
    if kind == "resistor":
        for letter in letter_strokes("103", 6.5):
            for stroke in letter:
                pen.stroke(stroke @ matrix + [x, y], 1.1, _SILK)


def _chip(pen: Pen, rng: np.random.Generator, fault: Optional[Fault]) -> None:
    offset = rng.uniform(-1.2, 1.2, 2)
    body = Material((44, 44, 48), 0.16).tinted(rng, 6.0)
    pen.polygon(rectangle(-40.0, -58.0, 40.0, 58.0), _SILK, 0.3)
    pen.polygon(rectangle(-38.5, -56.5, 38.5, 56.5), Material((26, 88, 56), 0.2), 0.3)
    bent = -1 if fault is None or fault.kind != "bent" else int(fault.rng.integers(0, 2 * _PINS))
    for pin in range(2 * _PINS):
        side = -1.0 if pin < _PINS else 1.0
        y = (pin % _PINS - (_PINS - 1) / 2) * _PIN_PITCH
        pen.polygon(rectangle(-5.0, -3.6, 9.0, 3.6) * [side, 1.0] + [side * 40.0, y], _SOLDER, 0.8)
        lean = 0.0
        if pin == bent and fault is not None:
            lean = fault.rng.choice([-1.0, 1.0]) * fault.rng.uniform(4.0, 8.0) * fault.strength
        leg = np.array([[-10.0, -2.5], [6.0, -2.5 + lean], [6.0, 2.5 + lean], [-10.0, 2.5]])
        pen.polygon(leg * [side, 1.0] + [side * 40.0 + offset[0], y + offset[1]], _SOLDER, 5.0)
    pen.polygon(rectangle(-33.0, -54.0, 33.0, 54.0) + offset, body, 11.0)
    pen.disc((-24.0 + offset[0], -45.0 + offset[1]), 4.0, Material((30, 30, 33), 0.1), 10.0)
    for letter in _label(fault):
        for stroke in letter:
            # The text runs along the chip's long side.
            pen.stroke(stroke[:, ::-1] * [-1.0, 1.0] + offset, 2.0, Material((176, 176, 172), 0.1))


def _label(fault: Optional[Fault]) -> List[List[np.ndarray]]:
    letters = [
        [stroke + np.array([0.0, y]) for stroke in letter]
        for text, y in (("ADQ80", -11.0), ("2431", 11.0))
        for letter in letter_strokes(text, 14.0)
    ]
    if fault is not None and fault.kind == "misprint":
        return misprint(letters, fault.rng, fault.strength)
    return letters
