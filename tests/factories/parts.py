"""Images of two drawn products, and a tiny engine that has learned them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from adq_edge.decision.fit import fit
from factories.tiny_engine import SIZE, write_engine

COLORS = {"bolt": (60, 80, 100), "nut": (150, 140, 90), "washer": (30, 200, 30)}
"""Colors of the products; no engine learns the washer."""


def draw_part(
    product: str, seed: int, *, is_defective: bool = False, size: int = SIZE, light: float = 0.0
) -> np.ndarray:
    """Return an image of a product, uint8 `[size, size, 3]` RGB; a defect is a white square.

    Args:
        product: a name of `COLORS`.
        seed: of the noise.
        is_defective: True to draw the defect.
        size: height and width.
        light: added to all pixels.
    """
    noise = np.random.default_rng([seed, len(product)]).normal(0.0, 4.0, (size, size, 3))
    image = (np.array(COLORS[product]) + light + noise).clip(0, 255).astype(np.uint8)
    if is_defective:
        top, left, side = size // 4, size // 2, size // 8
        image[top : top + side, left : left + side] = 250
    return image


def write_part(path: Path, product: str, seed: int, **changes: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = draw_part(product, seed, **changes)
    assert cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return path


def write_good_parts(folder: Path, product: str, count: int = 24) -> Path:
    """Write good images in different light."""
    lights = np.random.default_rng(1).normal(0.0, 12.0, count)
    for seed, light in enumerate(lights):
        write_part(folder / f"{seed:03}.png", product, seed, light=float(light))
    return folder


def write_fitted_engine(folder: Path, false_rejects: float = 0.05) -> Path:
    """Write an engine that has learned the bolt and the nut, below `folder`; return its path."""
    engine = write_engine(folder / "engines" / "parts.onnx")
    good = {name: write_good_parts(folder / "good" / name, name) for name in ("bolt", "nut")}
    fit(engine, good=good, false_rejects=false_rejects)
    return engine
