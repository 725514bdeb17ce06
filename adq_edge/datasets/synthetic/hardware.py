"""Five products of metal and wire: bolt, nut, gear, cable and zipper."""

from __future__ import annotations

import dataclasses
import math
from typing import List, Optional, Set, Tuple, Union

import numpy as np

from adq_edge.datasets.painting import polar, rotation
from adq_edge.datasets.synthetic.canvas import (
    Layers,
    Material,
    Pen,
    Pose,
    cast_shadow,
    ellipse,
    rectangle,
    smooth_noise,
)
from adq_edge.datasets.synthetic.fault import Fault


def _regular(corners: int, radius: float, turn: float = 0.0) -> np.ndarray:
    return polar(turn + np.arange(corners) * (2.0 * math.pi / corners), radius)


def _weather(layers: Layers, rng: np.random.Generator, amount: float) -> None:
    """Add the uneven brightness of used metal to the layers."""
    size = layers.size
    tone = smooth_noise(rng, size, (5, 5), octaves=2) + 0.7 * smooth_noise(rng, size, (size // 2, size // 2))
    layers.tone(1.0 + np.float32(amount) * tone)


_THREAD_PITCH, _THREAD_START, _THREAD_END, _TIP = 7.4, -18.0, 93.0, 98.0


@dataclasses.dataclass(frozen=True)
class _Shank:
    """A bolt's shank: its thread, the stripped part of the thread, and a bend that begins at the knee."""

    radius: float
    phase: float
    stripped: Tuple[float, float] = (0.0, 0.0)
    knee: float = 0.0
    bend: float = 0.0

    def damaged(self, fault: Fault) -> _Shank:
        """Return a copy that is bent or has part of its thread stripped."""
        if fault.kind == "bent":
            knee = fault.rng.uniform(-50.0, 40.0)
            tip_moves = fault.rng.uniform(5.0, 20.0) * fault.strength * fault.rng.choice([-1.0, 1.0])
            return dataclasses.replace(self, knee=knee, bend=tip_moves / (_TIP - knee) ** 2)
        start = fault.rng.uniform(_THREAD_START, 60.0)
        length = fault.rng.uniform(14.0, 30.0) * fault.strength
        return dataclasses.replace(self, stripped=(start, start + length))

    def axis(self, x: np.ndarray) -> np.ndarray:
        """Return the distance of the shank's axis from a straight line at `x`."""
        return np.asarray(self.bend * np.maximum(x - self.knee, 0.0) ** 2)

    def thread(self, x: np.ndarray, across: Union[float, np.ndarray]) -> np.ndarray:
        """Return the thread's relief at `x`; it advances half a pitch from one side (-1) to the other (1)."""
        turns = (x + self.phase) / _THREAD_PITCH + across * 0.25
        wave = 1.7 * np.cos(2.0 * math.pi * turns)
        threaded = (x > _THREAD_START) & ((x < self.stripped[0]) | (x > self.stripped[1]))
        return np.asarray(np.where(threaded, wave, -1.2 * (x > _THREAD_START)))

    def outline(self) -> np.ndarray:
        """Return the silhouette `[N, 2]`."""
        x = np.linspace(-62.0, _TIP, 220)
        chamfer = self.radius - np.maximum(x - _THREAD_END, 0.0) * 0.9
        upper = self.axis(x) - chamfer - self.thread(x, -1.0)
        lower = self.axis(x) + chamfer + self.thread(x, 1.0)
        return np.concatenate([np.stack([x, upper], 1), np.stack([x, lower], 1)[::-1]])


def bolt(rng: np.random.Generator, size: int, fault: Optional[Fault]) -> Layers:
    """Draw a hexagon bolt from the side; it can be bent or have a stripped thread."""
    pose = Pose.random(rng, 24.0)
    steel = Material((150, 151, 155), 0.5).tinted(rng, 12.0)
    pen = Pen(size, pose, Material((204, 205, 202), 0.0).tinted(rng, 5.0))
    shank = _Shank(phase=rng.uniform(0.0, _THREAD_PITCH), radius=rng.uniform(19.5, 20.5))
    if fault is not None:
        shank = shank.damaged(fault)
    pen.polygon(shank.outline(), steel, height=1.0)
    head = np.array([[-98, -33], [-94, -37], [-62, -37], [-62, 37], [-94, 37], [-98, 33]], float)
    pen.polygon(head, steel, height=1.0)
    layers = pen.develop()
    x, y = pose.grid(size)
    across = np.clip((y - shank.axis(x)) / np.float32(shank.radius + 2.0), -0.99, 0.99)
    cylinder = shank.radius * np.sqrt(1.0 - across * across) + shank.thread(x, across) * 1.15
    # The hexagon shows three of its faces: one towards the camera and two that fall away.
    faces = 33.0 - np.maximum(np.abs(y) - 18.5, 0.0) * 1.1 - np.maximum(-90.0 - x, 0.0) * 0.6
    layers.height = (np.where(x < -62.0, faces, cylinder) * layers.region).astype(np.float32)
    cast_shadow(layers, 0.45, (4.0, 5.0), 4.0)
    _weather(layers, rng, 0.025)
    return layers


def nut(rng: np.random.Generator, size: int, fault: Optional[Fault]) -> Layers:
    """Draw a hexagon nut from above; a corner can be broken off."""
    pose = Pose.random(rng, 30.0)
    zinc = Material((168, 165, 152), 0.42).tinted(rng, 12.0)
    ground = Material((58, 62, 70), 0.02).tinted(rng, 6.0)
    pen = Pen(size, pose, ground)
    hexagon = _regular(6, 92.0)
    pen.polygon(hexagon, zinc, height=1.0)
    if fault is not None:
        _break_corner(pen, fault, hexagon, ground)
    layers = pen.develop()
    x, y = pose.grid(size)
    radius = np.sqrt(x * x + y * y)
    turn = np.arctan2(y, x)
    hole = 43.0
    relief = 30.0 - np.maximum(radius - 76.0, 0.0) * 0.75 - np.maximum(51.0 - radius, 0.0) * 0.8
    inside = np.clip((hole + 3.0 - radius) / 3.0, 0.0, 1.0)
    spiral = radius / 3.4 + turn * np.float32(1.0 / (2.0 * math.pi)) + np.float32(rng.uniform())
    relief = np.where(radius < 46.0, 24.0 + 0.8 * np.cos(2.0 * math.pi * spiral), relief)
    layers.height = (relief * layers.region).astype(np.float32)
    shade = 1.0 - 0.55 * inside
    layers.tone(shade)
    bore = np.clip(hole - 11.0 - radius + 0.5, 0.0, 1.0).astype(np.float32)
    layers.blend(bore, (44, 47, 53), gloss=0.0)
    layers.height *= 1.0 - bore
    layers.region = layers.region * (1.0 - bore)
    cast_shadow(layers, 0.5, (5.0, 6.0), 5.0)
    ripples = np.cos(radius * np.float32(1.9)) * (radius < 76.0)
    layers.tone(1.0 + 0.02 * ripples)
    _weather(layers, rng, 0.03)
    return layers


def _break_corner(pen: Pen, fault: Fault, hexagon: np.ndarray, ground: Material) -> None:
    corner = hexagon[fault.rng.integers(0, 6)]
    inward = -corner / np.linalg.norm(corner)
    side = np.array([-inward[1], inward[0]])
    depth = fault.rng.uniform(9.0, 22.0) * fault.strength
    steps = np.linspace(-1.0, 1.0, 9)
    jagged = depth + fault.rng.uniform(-2.5, 2.5, 9)
    front = corner + inward * jagged[:, None] + side * (steps * depth * 2.2)[:, None]
    back = corner - inward * 30.0 + side * np.array([[3.0], [-3.0]]) * depth
    pen.polygon(np.concatenate([front, back]), ground, 0.0, solid=False)


_TEETH = 20


def gear(rng: np.random.Generator, size: int, fault: Optional[Fault]) -> Layers:
    """Draw a brass spur gear; a tooth can be broken off or bent."""
    pose = Pose.random(rng, 180.0)
    ground = Material((70, 76, 82), 0.02).tinted(rng, 6.0)
    brass = Material((190, 150, 78), 0.4).tinted(rng, 12.0)
    pen = Pen(size, pose, ground)
    pen.disc((0, 0), 84.0, brass, 9.0)
    faulty = -1 if fault is None else int(fault.rng.integers(0, _TEETH))
    for tooth in range(_TEETH):
        outline = _tooth(tooth, fault if tooth == faulty else None)
        if outline is not None:
            pen.polygon(outline, brass, 9.0)
    pen.disc((0, 0), 70.0, brass, 6.0)
    pen.disc((0, 0), 33.0, brass, 11.0)
    for spoke in _regular(5, 52.0):
        pen.disc((float(spoke[0]), float(spoke[1])), 12.5, ground, 0.0, solid=False)
    pen.disc((0, 0), 16.0, ground, 0.0, solid=False)
    pen.polygon(rectangle(-5.0, -22.0, 5.0, -8.0), ground, 0.0, solid=False)
    layers = pen.develop(bevel=1.3)
    cast_shadow(layers, 0.5, (4.0, 5.0), 4.0)
    x, y = pose.grid(size)
    rings = np.cos(np.sqrt(x * x + y * y) * np.float32(2.1)) * layers.region
    layers.tone(1.0 + 0.02 * rings)
    _weather(layers, rng, 0.025)
    return layers


def _tooth(index: int, fault: Optional[Fault]) -> Optional[np.ndarray]:
    tip, lean = 105.0, 0.0
    if fault is not None and fault.kind == "bent":
        lean = fault.rng.choice([-1.0, 1.0]) * fault.rng.uniform(0.045, 0.10) * fault.strength
    elif fault is not None:
        tip = 84.0 + fault.rng.uniform(0.0, 12.0) / fault.strength
        if tip < 86.0:
            return None
    radii = np.array([80.0, 88.0, 97.0, tip, tip, 97.0, 88.0, 80.0])
    radii = np.minimum(radii, tip)
    angles = np.array([-0.115, -0.095, -0.07, -0.04, 0.04, 0.07, 0.095, 0.115])
    angles = angles + index * (2.0 * math.pi / _TEETH) + lean * (radii - 80.0) / 25.0
    return polar(angles, radii)


_WIRES = ((104, 66, 44), (36, 84, 158), (128, 152, 48))


def cable(rng: np.random.Generator, size: int, fault: Optional[Fault]) -> Layers:
    """Draw the cut end of a three-core cable; a core can be missing or swapped, strands can be bent."""
    pose = Pose.random(rng, 180.0, shift=6.0)
    pen = Pen(size, pose, Material((176, 178, 180), 0.02).tinted(rng, 6.0))
    sheath = Material((92, 94, 98), 0.1).tinted(rng, 8.0)
    pen.polygon(ellipse((0, 0), 106.0 + rng.uniform(-3, 3), 106.0 + rng.uniform(-3, 3)), sheath, 10.0)
    pen.disc((0, 0), 91.0, Material((38, 38, 42), 0.02), 2.0)
    faulty = -1 if fault is None else int(fault.rng.integers(0, 3))
    for core, middle in enumerate(_regular(3, 46.5, rng.uniform(-0.05, 0.05))):
        center = (float(middle[0] + rng.uniform(-1.5, 1.5)), float(middle[1] + rng.uniform(-1.5, 1.5)))
        materials = [Material(color, 0.12).tinted(rng, 10.0) for color in _WIRES]
        strands = _strands(rng)
        if core == faulty and fault is not None:
            if fault.kind == "missing_part":
                continue
            if fault.kind == "swap":
                materials[core] = materials[(core + int(fault.rng.integers(1, 3))) % 3]
            else:
                strands = _bend_strands(fault, strands)
        pen.disc(center, 40.0, materials[core], 9.0)
        pen.disc(center, 27.5, Material((52, 38, 30), 0.05), 3.0)
        for x, y, tone in strands:
            copper = Material((198 + tone, 124 + tone, 80 + tone), 0.4)
            pen.disc((center[0] + x, center[1] + y), 5.4, copper, 8.0)
    layers = pen.develop(bevel=1.5)
    cast_shadow(layers, 0.4, (3.0, 4.0), 4.0)
    _weather(layers, rng, 0.03)
    return layers


def _strands(rng: np.random.Generator) -> List[Tuple[float, float, float]]:
    """Return the 19 strands of a core as (x, y, tone): a middle one and two rings around it."""
    rings = [np.zeros((1, 2)), _regular(6, 10.8, rng.uniform(0, 6)), _regular(12, 21.4, rng.uniform(0, 6))]
    places = np.concatenate(rings) + rng.uniform(-0.8, 0.8, (19, 2))
    tones = rng.uniform(-22.0, 22.0, 19)
    return [(float(x), float(y), float(tone)) for (x, y), tone in zip(places, tones)]


def _bend_strands(
    fault: Fault, strands: List[Tuple[float, float, float]]
) -> List[Tuple[float, float, float]]:
    """Bend some neighboring outer strands outwards over the insulation."""
    first = 7 + int(fault.rng.integers(0, 12))
    push = 1.0 + fault.rng.uniform(0.18, 0.42) * fault.strength
    bent = list(strands)
    for step in range(int(fault.rng.integers(2, 5))):
        index = 7 + (first - 7 + step) % 12
        x, y, tone = strands[index]
        bent[index] = (x * push, y * push, tone)
    return bent


_TOOTH_OUTLINE = np.array(
    [[-6.5, -3.3], [0, -4.4], [4, -3.9], [24, -3.1], [24, 3.1], [4, 3.9], [0, 4.4], [-6.5, 3.3]]
)


def zipper(rng: np.random.Generator, size: int, fault: Optional[Fault]) -> Layers:
    """Draw a closed zipper on two tapes; teeth can be missing or bent."""
    pose = Pose.random(rng, 4.0, shift=5.0)
    cloth = Material((58, 64, 84), 0.02).tinted(rng, 8.0)
    metal = Material((186, 178, 158), 0.45).tinted(rng, 10.0)
    pen = Pen(size, pose, Material((214, 214, 210), 0.0).tinted(rng, 4.0))
    pen.polygon(rectangle(-88.0, -200.0, 88.0, 200.0), cloth, 3.0)
    pen.polygon(rectangle(-30.0, -200.0, 30.0, 200.0), cloth.tinted(rng, 5.0), 4.5)
    pen.polygon(rectangle(-3.0, -200.0, 3.0, 200.0), Material((26, 28, 38), 0.0), 2.0)
    pitch, offset = 11.6, rng.uniform(0.0, 23.0)
    faulty: Set[int] = set() if fault is None else _faulty_teeth(fault)
    for index, start in enumerate(np.arange(-162.0, 162.0, pitch)):
        side = -1.0 if index % 2 else 1.0
        tooth = _TOOTH_OUTLINE * [side, 1.0] + [0.0, start + offset + rng.uniform(-0.5, 0.5)]
        shade = metal.tinted(rng, 7.0)
        if index in faulty and fault is not None:
            if fault.kind == "missing_part":
                continue
            tooth = _bend_tooth(fault, tooth, side)
        pen.polygon(tooth, shade, 10.0)
    layers = pen.develop(bevel=1.1)
    _weave_tape(layers, pose)
    cast_shadow(layers, 0.35, (3.0, 3.0), 3.0)
    _weather(layers, rng, 0.03)
    return layers


def _faulty_teeth(fault: Fault) -> Set[int]:
    first = int(fault.rng.integers(7, 18))
    step = 2 if fault.kind == "missing_part" else 1
    return {first + step * number for number in range(int(fault.rng.integers(1, 4)))}


def _bend_tooth(fault: Fault, tooth: np.ndarray, side: float) -> np.ndarray:
    root = tooth[3:5].mean(axis=0)
    angle = fault.rng.choice([-1.0, 1.0]) * fault.rng.uniform(0.12, 0.35) * fault.strength
    turned = (tooth - root) @ rotation(angle) + root
    turned[:, 0] += side * fault.rng.uniform(1.0, 5.0) * fault.strength
    return np.asarray(turned)


def _weave_tape(layers: Layers, pose: Pose) -> None:
    """Draw the ribs of woven cloth on the tapes, which are the product's low parts."""
    x, y = pose.grid(layers.size)
    pitch = np.float32(1.25)
    ribs = np.cos((x + np.abs(x) * np.float32(0.25)) * pitch) * np.cos((y + np.abs(x)) * pitch)
    cloth = layers.region * np.clip((7.0 - layers.height) / 2.0, 0.0, 1.0)
    layers.tone(1.0 + 0.10 * ribs * cloth)
    layers.height += 0.35 * ribs * cloth
