"""Conditions of a camera: found by their rules, and not on good images."""

from __future__ import annotations

from typing import List, Set, Tuple

import cv2
import numpy as np

from adq_edge.artifacts.image_statistics import ImageStatistics
from adq_edge.decision.health.conditions import CameraWatch, Condition, Finding
from adq_edge.decision.health.measures import learn_statistics, measure_image
from factories.decisions import good_image

SIDE = 64


def part(seed: int) -> np.ndarray:
    image = good_image("bolt", seed, SIDE)
    cv2.circle(image, (32, 32), 18, (180, 170, 160), -1)
    return image


def normal() -> ImageStatistics:
    return learn_statistics([measure_image(part(seed)) for seed in range(30)])


def watch(images: List[np.ndarray], statistics: bool = True) -> List[Tuple[Finding, ...]]:
    camera, usual = CameraWatch(), normal() if statistics else None
    return [camera.update(image, measure_image(image), "bolt", usual) for image in images]


def conditions(found: Tuple[Finding, ...]) -> Set[Condition]:
    return {one.condition for one in found}


def test_good_images_show_no_condition():
    assert not any(watch([part(seed) for seed in range(100, 200)]))


def test_third_equal_image_is_a_frozen_camera_until_the_next_other_one():
    found = watch([part(100), part(101), part(101), part(101), part(101), part(102)])
    assert [conditions(one) for one in found] == [
        set(),
        set(),
        set(),
        {Condition.FROZEN},
        {Condition.FROZEN},
        set(),
    ]
    assert found[4][0].text == "camera frozen: the last 4 images are equal"


def test_black_and_saturated_images_are_found_at_once_also_without_statistics():
    black, white = np.zeros((SIDE, SIDE, 3), np.uint8), np.full((SIDE, SIDE, 3), 255, np.uint8)
    for statistics in (True, False):
        found = watch([part(100), black, white], statistics)
        assert conditions(found[1]) == {Condition.BLACK}
        assert conditions(found[2]) >= {Condition.SATURATED}
    assert "100 % of the pixels are dark, 0 % or less at fit" in found[1][0].text


def test_product_with_a_white_ground_is_not_saturated():
    def white_ground(seed: int) -> np.ndarray:
        image = np.full((SIDE, SIDE, 3), 255, np.uint8)
        image[16:48, 16:48] = part(seed)[16:48, 16:48]
        return image

    usual = learn_statistics([measure_image(white_ground(seed)) for seed in range(10)])
    camera = CameraWatch()
    assert not camera.update(white_ground(20), measure_image(white_ground(20)), "bolt", usual)
    white = np.full((SIDE, SIDE, 3), 255, np.uint8)
    assert Condition.SATURATED in conditions(camera.update(white, measure_image(white), "bolt", usual))


def test_lost_focus_and_changed_light_need_three_images_in_a_row():
    blurred = [cv2.GaussianBlur(part(seed), (0, 0), 3.0) for seed in range(4)]
    found = watch([part(100), *blurred[:2], part(101), *blurred[:3]])
    assert [Condition.OUT_OF_FOCUS in conditions(one) for one in found] == [False] * 6 + [True]
    assert found[-1][0].text.startswith("sharpness of bolt: ")
    assert found[-1][0].text.endswith(" % below fit's in the last 3 images")
    dark = [np.asarray(part(seed) * 0.5, np.uint8) for seed in range(3)]
    assert Condition.LIGHT_CHANGED in conditions(watch(dark)[-1])
    assert "light of bolt: 50 % below fit's" in [one.text for one in watch(dark)[-1]][-1]
