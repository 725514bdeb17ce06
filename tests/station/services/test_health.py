"""The health of a station: what its images show of cameras and of drift."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Sequence

import cv2
import numpy as np
import pytest

from adq_edge.station.engines import open_inspector
from adq_edge.station.events import Trigger
from adq_edge.station.services.health import HealthService
from adq_edge.station.station import Station
from factories.parts import draw_part, write_fitted_engine
from factories.stations import WAIT_S, station_config

CAMERA, DRIFT = "camera of line", "drift of bolt"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fitted_engine(tmp_path_factory.mktemp("fitted"))


def problems_after(engine: Path, folder: Path, images: Sequence[np.ndarray], **health: Any) -> Dict[str, str]:
    """Judge images of bolts in a station with `[health]`; return the problems before its end."""
    source = {"type": "calls", "queue": 1000, "product": "bolt"}
    with Station(station_config(engine, folder, sources={"line": source}, health=health)) as station:
        tickets = [station.intake("line").submit(Trigger(image=image)) for image in images]
        for ticket in tickets:
            ticket.stored.result(WAIT_S)
        return {one.subject: str(one.problem) for one in station.conditions.current}


def bolts(count: int, first: int = 100, light: float = 0.0) -> List[np.ndarray]:
    """Return images of good bolts in the different light of those that were learned, and `light` more."""
    lights = np.random.default_rng(first).normal(light, 12.0, count)
    return [draw_part("bolt", first + number, light=float(one)) for number, one in enumerate(lights)]


def test_normal_images_and_a_defect_are_no_problem(engine: Path, tmp_path: Path):
    images = [*bolts(30), draw_part("bolt", 7, is_defective=True)]
    assert problems_after(engine, tmp_path, images) == {}


@pytest.mark.parametrize(
    ("image", "problem"),
    [
        (np.zeros((64, 64, 3), np.uint8), "image black: 100 % of the pixels are dark"),
        (np.full((64, 64, 3), 255, np.uint8), "image saturated: 100 % of the pixels are white"),
    ],
)
def test_one_image_without_a_part_is_a_problem_until_the_next_one(
    engine: Path, tmp_path: Path, image: np.ndarray, problem: str
):
    assert problem in problems_after(engine, tmp_path, [*bolts(3), image])[CAMERA]
    assert CAMERA not in problems_after(engine, tmp_path, [*bolts(3), image, *bolts(1, 200)])


def test_frozen_and_blurred_images_are_problems_of_the_camera(engine: Path, tmp_path: Path):
    same = bolts(1)[0]
    frozen = problems_after(engine, tmp_path / "frozen", [same.copy() for _ in range(3)])
    assert frozen[CAMERA] == "camera frozen: the last 3 images are equal"
    blurred = [cv2.GaussianBlur(image, (0, 0), 3.0) for image in bolts(3)]
    found = problems_after(engine, tmp_path / "blurred", blurred)
    assert "sharpness of bolt: " in found[CAMERA]
    assert "below fit's in the last 3 images" in found[CAMERA]


def test_drift_is_reported_and_goes_on_after_a_restart_until_the_light_is_back(engine: Path, tmp_path: Path):
    found = problems_after(engine, tmp_path, bolts(150, light=20.0))
    assert "light of bolt: " in found[DRIFT]
    assert "above fit's since " in found[DRIFT]
    assert DRIFT in problems_after(engine, tmp_path, bolts(1, 400, light=20.0))
    assert DRIFT not in problems_after(engine, tmp_path, bolts(150, 500))


def test_a_damaged_state_starts_the_test_of_drift_again(engine: Path, tmp_path: Path):
    problems_after(engine, tmp_path, bolts(150, light=20.0))
    (tmp_path / "store" / "drift-parts.json").write_text("{}")
    assert DRIFT not in problems_after(engine, tmp_path, bolts(1, 400, light=20.0))


def test_drift_can_be_left_out(engine: Path, tmp_path: Path):
    assert DRIFT not in problems_after(engine, tmp_path, bolts(150, light=20.0), drift=False)
    assert not (tmp_path / "store" / "drift-parts.json").exists()


def test_an_engine_that_was_loaded_again_is_watched_with_its_own_products(engine: Path, tmp_path: Path):
    source = {"type": "calls", "queue": 1000, "product": "bolt"}
    with Station(station_config(engine, tmp_path, sources={"line": source}, health={})) as station:
        loaded = station.engines["parts"]
        loaded.inspector = open_inspector(loaded.options)
        health = station.config.services["health"]
        assert isinstance(health, HealthService)
        station.intake("line").submit(Trigger(image=bolts(1)[0])).stored.result(WAIT_S)
        assert health._engines["parts"].inspector is loaded.inspector
