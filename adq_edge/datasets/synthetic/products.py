"""Four consumer products: bottle, capsule, tablet and toothbrush."""

from __future__ import annotations

import math
from typing import Optional

import cv2
import numpy as np

from adq_edge.datasets.painting import polar
from adq_edge.datasets.synthetic.canvas import (
    UNITS,
    Layers,
    Material,
    Pen,
    Pose,
    cast_shadow,
    dome,
    ellipse,
    rounded_rectangle,
    smooth_noise,
)
from adq_edge.datasets.synthetic.fault import Fault
from adq_edge.datasets.synthetic.lettering import letter_strokes, misprint


def bottle(rng: np.random.Generator, size: int, fault: Optional[Fault]) -> Layers:
    """Draw an open brown bottle from above, lit from below; a piece of the rim can be broken out."""
    pose = Pose.random(rng, 180.0, shift=4.0)
    ground = Material((238, 238, 234), 0.0).tinted(rng, 3.0)
    glass = Material((66, 34, 16), 0.5).tinted(rng, 7.0)
    pen = Pen(size, pose, ground)
    pen.disc((0, 0), 108.0, glass, 4.0)
    pen.disc((0, 0), 98.0, Material((40, 20, 10), 0.3), 6.0)
    pen.disc((0, 0), 90.0, Material((104, 58, 24), 0.6).tinted(rng, 8.0), 14.0)
    pen.disc((0, 0), 78.0, Material((150, 92, 40), 0.6).tinted(rng, 10.0), 15.0)
    pen.disc((0, 0), 66.0, Material((48, 24, 12), 0.3), 6.0)
    pen.disc((0, 0), 56.0, Material((20, 12, 9), 0.05).tinted(rng, 4.0), 1.0)
    if fault is not None:
        _break_rim(pen, fault)
    layers = pen.develop(bevel=2.2)
    x, y = pose.grid(size)
    radius, turn = np.sqrt(x * x + y * y), np.arctan2(y, x)
    depth = np.clip(1.0 - radius / 56.0, 0.0, 1.0)
    # The thick base collects the light from below, so it appears bright through the neck.
    glow = depth * (1.0 - depth) * np.float32(rng.uniform(0.7, 1.5))
    layers.albedo += cv2.merge([glow * np.float32(share) for share in (0.55, 0.27, 0.09)])
    phases = rng.uniform(0.0, 6.0, 2).astype(np.float32)
    streaks = np.cos(turn * 3.0 + phases[0]) * np.cos(turn * 7.0 + phases[1])
    wall = np.clip(1.0 - np.abs(radius - 80.0) / 26.0, 0.0, 1.0)
    layers.tone(1.0 + 0.22 * streaks * wall)
    layers.tone(1.0 + 0.012 * smooth_noise(rng, size, (6, 6)))
    return layers


def _break_rim(pen: Pen, fault: Fault) -> None:
    turn = fault.rng.uniform(0.0, 2.0 * math.pi)
    half = fault.rng.uniform(0.10, 0.26) * fault.strength
    deep = fault.rng.uniform(60.0, 72.0)
    angles = turn + np.linspace(-half, half, 9)
    outer = polar(angles, 91.0)
    shape = deep + (91.0 - deep) * np.abs(np.linspace(-1.0, 1.0, 9)) ** 1.6 + fault.rng.uniform(-3.0, 3.0, 9)
    inner = polar(angles, shape)[::-1]
    pen.polygon(np.concatenate([outer, inner]), Material((186, 128, 70), 0.5), 8.0)
    middle = (outer[2:7] * 0.75 + inner[::-1][2:7] * 0.25).repeat(2, axis=0)
    pen.stroke(middle + fault.rng.uniform(-3.0, 3.0, middle.shape), 2.0, Material((232, 196, 150), 0.6), 11.0)


def _print(
    pen: Pen,
    text: str,
    height: float,
    center: np.ndarray,
    ink: Material,
    width: float,
    fault: Optional[Fault],
) -> None:
    letters = letter_strokes(text, height)
    if fault is not None and fault.kind == "misprint":
        letters = misprint(letters, fault.rng, fault.strength)
    for letter in letters:
        for stroke in letter:
            pen.stroke(stroke + center, width, ink)


def capsule(rng: np.random.Generator, size: int, fault: Optional[Fault]) -> Layers:
    """Draw a printed gelatin capsule of two colors; its print can be faulty."""
    pose = Pose.random(rng, 20.0)
    pen = Pen(size, pose, Material((226, 226, 222), 0.0).tinted(rng, 4.0))
    body = Material((196, 92, 44), 0.75).tinted(rng, 9.0)
    cap = Material((66, 58, 60), 0.75).tinted(rng, 7.0)
    pen.polygon(rounded_rectangle(102.0, 37.5, 37.4), body, 1.0)
    seam = rng.uniform(-10.0, -2.0)
    outline = rounded_rectangle(104.0, 40.0, 39.9)
    pen.polygon(np.minimum(outline, [seam, 1e3]), cap, 1.0)
    ink = Material((238, 232, 224), 0.7)
    _print(pen, "500", 24.0, np.array([48.0, rng.uniform(-3.0, 3.0)]), ink, 3.0, fault)
    _print(pen, "ADQ", 22.0, np.array([-54.0, rng.uniform(-3.0, 3.0)]), ink, 2.6, None)
    layers = pen.develop()
    x, y = pose.grid(size)
    off_axis = np.maximum(np.abs(x) - 64.1, np.float32(0.0)) ** 2 + y * y
    layers.height = cv2.sqrt(np.maximum(1.0 - off_axis / np.float32(40.0**2), np.float32(0.0))) * 34.0
    layers.height += np.float32(1.2) * (x < np.float32(seam)) * layers.region
    layers.height = cv2.GaussianBlur(layers.height, (0, 0), 1.2 * size / UNITS)
    cast_shadow(layers, 0.45, (6.0, 8.0), 6.0)
    layers.tone(1.0 + 0.015 * smooth_noise(rng, size, (8, 8), octaves=2))
    return layers


def tablet(rng: np.random.Generator, size: int, fault: Optional[Fault]) -> Layers:
    """Draw a round speckled tablet with a score line and a stamp; a piece of its edge can be missing."""
    pose = Pose.random(rng, 40.0)
    ground = Material((46, 74, 104), 0.02).tinted(rng, 6.0)
    chalk = Material((222, 214, 196), 0.04).tinted(rng, 7.0)
    pen = Pen(size, pose, ground)
    pen.disc((0, 0), 90.0, chalk, 1.0)
    places, tones = rng.normal(0.0, 48.0, (90, 2)), rng.uniform(-30.0, 20.0, 90)
    places *= (86.0 / np.maximum(np.hypot(places[:, 0], places[:, 1]), 86.0))[:, None]
    radii = rng.gamma(3.0, 0.42, 90)
    specks = places[:, None] + radii[:, None, None] * ellipse((0.0, 0.0), 1.0, 1.0, 12)
    materials = [Material((196 + tone, 150 + tone, 120 + tone)) for tone in tones]
    pen.polygons(specks, materials, [None] * 90)
    if fault is not None and fault.kind == "missing_part":
        _break_edge(pen, fault, ground)
    layers = pen.develop()
    stamp = Pen(size, pose, Material((0, 0, 0)))
    _print(stamp, "25", 34.0, np.array([0.0, -36.0]), Material((255, 255, 255)), 5.0, fault)
    _print(stamp, "AD", 30.0, np.array([0.0, 38.0]), Material((255, 255, 255)), 5.0, None)
    stamp.stroke(np.array([[-90.0, 0.0], [90.0, 0.0]]), 7.0, Material((255, 255, 255)))
    pressed = cv2.GaussianBlur(stamp.develop().albedo[..., 0], (0, 0), 1.3 * size / UNITS)
    rough = smooth_noise(rng, size, (size // 2, size // 2))
    layers.height = 16.0 * dome(layers.region, 26.0) - 3.2 * pressed * layers.region
    layers.height = cv2.GaussianBlur(layers.height, (0, 0), 1.0 * size / UNITS) + 0.10 * rough
    cast_shadow(layers, 0.5, (5.0, 7.0), 5.0)
    uneven = 0.012 * rough + 0.015 * smooth_noise(rng, size, (5, 5))
    layers.tone(1.0 + uneven * layers.region)
    return layers


def _break_edge(pen: Pen, fault: Fault, ground: Material) -> None:
    turn, bite = fault.rng.uniform(0.0, 2.0 * math.pi), fault.rng.uniform(9.0, 26.0) * fault.strength
    center = 91.0 * np.array([math.cos(turn), math.sin(turn)])
    outline = ellipse((0.0, 0.0), 1.0, 1.0, 22) * (bite * fault.rng.uniform(0.75, 1.15, (22, 1)))
    pen.polygon(outline + center, ground, 0.0, solid=False)


_BRISTLES = ((226, 232, 236), (70, 132, 196), (226, 232, 236), (86, 176, 120))


def toothbrush(rng: np.random.Generator, size: int, fault: Optional[Fault]) -> Layers:
    """Draw a toothbrush's head from above; a tuft can be missing or splayed."""
    pose = Pose.random(rng, 5.0)
    handle = Material((224, 96, 120), 0.4).tinted(rng, 8.0)
    pen = Pen(size, pose, Material((40, 44, 50), 0.02).tinted(rng, 5.0))
    pen.polygon(np.array([[-20.0, 90.0], [20.0, 90.0], [15.0, 150.0], [-15.0, 150.0]]), handle, 5.0)
    pen.polygon(rounded_rectangle(46.0, 110.0, 42.0), handle, 5.0)
    faulty = -1 if fault is None else int(fault.rng.integers(0, 36))
    for tuft in range(36):
        row, column = divmod(tuft, 4)
        center = np.array([(column - 1.5) * 20.5, (row - 4.0) * 22.0])
        if row in (0, 8):
            center[0] *= 0.82
        bristle = Material(_BRISTLES[row % 4], 0.2).tinted(rng, 8.0)
        angles, tones = rng.uniform(0.0, 2.0 * math.pi, 24), rng.uniform(-46.0, 22.0, 24)
        reach = 8.2 * np.sqrt(rng.uniform(0.0, 1.0, 24))
        spread = polar(angles, reach)
        center = center + rng.uniform(-1.3, 1.3, 2)
        pen.disc((center[0], center[1]), 9.0, Material((96, 44, 58), 0.1), 2.0)
        if tuft == faulty and fault is not None:
            if fault.kind == "missing_part":
                continue
            spread = spread * fault.rng.uniform(1.4, 1.9) * fault.strength + fault.rng.normal(0.0, 4.0, 2)
        spread = spread.clip(-19.0, 19.0)
        red, green, blue = bristle.color
        core = Material((red * 0.72, green * 0.72, blue * 0.72), 0.1)
        middle = center + spread.mean(axis=0) * 0.6
        pen.disc((middle[0], middle[1]), 8.4, core, 11.5)
        tips = (spread + center)[:, None] + ellipse((0.0, 0.0), 2.1, 2.1, 8)
        materials = [Material((red + tone, green + tone, blue + tone), 0.2) for tone in tones]
        pen.polygons(tips, materials, (13.0 + tones / 30.0).tolist())
    layers = pen.develop(bevel=0.7)
    cast_shadow(layers, 0.5, (4.0, 5.0), 4.0)
    layers.tone(1.0 + 0.02 * smooth_noise(rng, size, (6, 6)))
    return layers
