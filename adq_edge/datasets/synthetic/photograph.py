"""Rendering of a product's layers as a camera image: light, lens and sensor."""

from __future__ import annotations

import dataclasses
import math
from statistics import NormalDist
from typing import Tuple

import cv2
import numpy as np

from adq_edge.datasets.synthetic.canvas import UNITS, Layers

_AMBIENT = 0.45
_SHININESS = 28.0
# A random byte selects one of 256 equally likely values of the normal distribution. This is fine enough for
# a noise of a few gray levels, and several times faster than exact normal numbers.
_NORMAL_QUANTILES = np.array([NormalDist().inv_cdf((step + 0.5) / 256) for step in range(256)], np.float32)


@dataclasses.dataclass(frozen=True)
class Shot:
    """The light and camera settings of one image.

    Attributes:
        direction: unit vector towards the lamp (x right, y down, z to the camera).
        slope: relative change of the light across the image, (x, y).
        gains: brightness per channel (exposure and color temperature).
        blur: standard deviation of the lens blur in units.
        noise: standard deviation of the sensor's noise at full brightness, 0 to 1.
    """

    direction: Tuple[float, float, float]
    slope: Tuple[float, float]
    gains: Tuple[float, float, float]
    blur: float
    noise: float


def random_shot(rng: np.random.Generator) -> Shot:
    """Draw a shot with the small variations of an inspection station; the lamp is at the upper left."""
    azimuth = math.radians(-128.0 + rng.uniform(-14.0, 14.0))
    elevation = math.radians(rng.uniform(48.0, 60.0))
    flat = math.cos(elevation)
    direction = (flat * math.cos(azimuth), flat * math.sin(azimuth), math.sin(elevation))
    exposure, warmth = rng.uniform(0.92, 1.07), rng.uniform(-0.025, 0.025)
    tilt, strength = rng.uniform(0.0, 2.0 * math.pi), rng.uniform(0.02, 0.12)
    return Shot(
        direction,
        (strength * math.cos(tilt), strength * math.sin(tilt)),
        (exposure * (1.0 + warmth), exposure, exposure * (1.0 - warmth)),
        rng.uniform(0.45, 0.75),
        rng.uniform(0.008, 0.014),
    )


def expose(layers: Layers, shot: Shot) -> np.ndarray:
    """Return the noise-free image on the sensor, float32 `[H, W, 3]`, 0 to 1.

    Diffuse light follows Lambert, the mirror reflection Blinn and Phong. The gradient of the height gives the
    surface normal. Flat surfaces have a diffuse factor of 1.
    """
    diffuse, mirror = _reflections(layers, shot)
    axis = np.linspace(-1.0, 1.0, layers.size, dtype=np.float32)
    lamp = 1.0 + np.float32(shot.slope[0]) * axis[None, :] + np.float32(shot.slope[1]) * axis[:, None]
    lamp -= np.float32(0.035) * (axis[None, :] ** 2 + axis[:, None] ** 2)
    gains = [np.float32(gain) for gain in shot.gains]
    matt, shine = diffuse * lamp, layers.gloss * mirror * lamp
    image = layers.albedo * cv2.merge([matt * gain for gain in gains])
    image += cv2.merge([shine * gain for gain in gains])
    image = cv2.GaussianBlur(image, (0, 0), shot.blur * layers.size / UNITS)
    np.clip(image, 0.0, 1.4, out=image)
    # The sensor's response flattens before saturation. Without this, highlights would be plain white spots.
    image -= np.float32(0.13) * image * image * image
    return np.asarray(np.clip(image, 0.0, 1.0, out=image))


def _reflections(layers: Layers, shot: Shot) -> Tuple[np.ndarray, np.ndarray]:
    ratio = layers.size / UNITS
    # The ground is flat, even under the rounded edge of the relief.
    slope_x = cv2.Sobel(layers.height, cv2.CV_32F, 1, 0, scale=ratio / 8.0) * layers.region
    slope_y = cv2.Sobel(layers.height, cv2.CV_32F, 0, 1, scale=ratio / 8.0) * layers.region
    length = cv2.sqrt(slope_x * slope_x + slope_y * slope_y + np.float32(1.0))
    x, y, z = (np.float32(value) for value in shot.direction)
    lambert = np.maximum((z - slope_x * x - slope_y * y) / length, np.float32(0.0))
    diffuse = np.float32(_AMBIENT) + np.float32((1.0 - _AMBIENT) / float(z)) * lambert
    # The halfway vector between the directions to the lamp and to the camera, which points straight down.
    norm = math.sqrt(2.0 + 2.0 * float(z))
    half_x, half_y, half_z = np.float32(x / norm), np.float32(y / norm), np.float32((z + 1.0) / norm)
    facing = np.maximum((half_z - slope_x * half_x - slope_y * half_y) / length, np.float32(0.0))
    return diffuse, np.asarray(cv2.pow(facing, _SHININESS))


def sensor_noise(rng: np.random.Generator, projected: np.ndarray, shot: Shot) -> np.ndarray:
    """Return the shot and read noise, float32 `[H, W, 3]`, of a sensor with the image `projected`."""
    drawn = np.frombuffer(rng.bytes(projected.size), np.uint8).reshape(projected.shape)
    pattern = cv2.LUT(drawn, _NORMAL_QUANTILES)
    return np.asarray(pattern * cv2.sqrt(projected + np.float32(0.15)) * np.float32(shot.noise))


def digitize(signal: np.ndarray) -> np.ndarray:
    """Convert a signal of 0 to 1 to uint8."""
    return np.asarray(np.clip(signal * np.float32(255.0) + np.float32(0.5), 0.0, 255.0).astype(np.uint8))
