"""Measures of images: each change of the line moves its own measure, and `fit` stores what is normal."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adq_edge.artifacts.products import Products, products_path
from adq_edge.core.errors import EngineError
from adq_edge.decision.fit import fit
from adq_edge.decision.health.measures import Locator, learn_statistics, measure_image
from factories.decisions import products_of, random_product, write_good_images, write_scaled_engine

SIDE = 256


def textured(seed: int = 0, side: int = SIDE) -> np.ndarray:
    generator = np.random.default_rng(seed)
    rough = generator.uniform(40, 160, (side // 4, side // 4, 3)).astype(np.float32)
    return np.asarray(cv2.resize(rough, (side, side), interpolation=cv2.INTER_CUBIC).clip(5, 200), np.uint8)


def test_less_light_lowers_light_by_its_logarithm_and_leaves_sharpness_and_color():
    before = measure_image(textured())
    after = measure_image(np.asarray(textured() * 0.8, np.uint8))
    assert after.light - before.light == pytest.approx(np.log(0.8), abs=0.01)
    assert after.sharpness == pytest.approx(before.sharpness, abs=0.05)
    assert (after.red, after.blue) == pytest.approx((before.red, before.blue), abs=0.01)


def test_blur_lowers_sharpness_and_leaves_light():
    before, after = measure_image(textured()), measure_image(cv2.GaussianBlur(textured(), (0, 0), 1.5))
    assert after.sharpness < before.sharpness - 0.1
    assert after.light == pytest.approx(before.light, abs=0.01)


def test_color_of_the_light_moves_red_and_blue_only():
    warm = textured().astype(float) * (1.1, 1.0, 0.9)
    before, after = measure_image(textured()), measure_image(warm.astype(np.uint8))
    assert after.red - before.red == pytest.approx(np.log(1.1), abs=0.01)
    assert after.blue - before.blue == pytest.approx(np.log(0.9), abs=0.01)


def test_shares_of_dark_and_saturated_pixels_are_counted():
    image = np.full((40, 50, 3), 100, np.uint8)
    image[:10], image[10:15] = 0, 255
    found = measure_image(image)
    assert (found.dark, found.saturated) == (0.25, 0.125)


@given(x=st.integers(-28, 28), y=st.integers(-28, 28), light=st.floats(0.5, 1.2))
@settings(max_examples=25, deadline=None)
def test_locator_finds_a_shift_whatever_the_light(x: int, y: int, light: float):
    image = textured(1)
    normal = measure_image(image)
    moved = cv2.warpAffine(
        image, np.float64([[1, 0, x], [0, 1, y]]), (SIDE, SIDE), borderMode=cv2.BORDER_REFLECT_101
    )
    changed = np.asarray((moved * light).clip(0, 255), np.uint8)
    found = Locator(normal.rows, normal.columns).locate(measure_image(changed))
    assert np.array(found) * SIDE == pytest.approx((x, y), abs=1.5)


def test_flat_images_have_no_position_and_finite_measures():
    flat = measure_image(np.full((32, 48, 3), 77, np.uint8))
    assert np.isfinite(flat[:7]).all()
    statistics = learn_statistics([flat, flat])
    statistics.check()
    assert Locator(statistics.rows, statistics.columns).locate(flat) == (0.0, 0.0)


def test_fit_stores_what_is_normal_for_the_images(tmp_path: Path):
    engine = write_scaled_engine(tmp_path / "e.onnx")
    good = write_good_images(tmp_path / "bolt", "bolt", 12)
    learned = fit(engine, good={"bolt": good}).products.named("bolt")
    paths = sorted(good.iterdir())
    found = [measure_image(cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)) for path in paths]
    lights = [one.light for one in found]
    assert learned.image_statistics is not None
    assert learned.image_statistics.light.mean == pytest.approx(np.mean(lights))
    assert learned.image_statistics.light.spread == pytest.approx(np.std(lights, ddof=1))
    assert (learned.image_statistics.light.low, learned.image_statistics.light.high) == pytest.approx(
        (min(lights), max(lights))
    )
    assert Products.read(products_path(engine)).named("bolt") == learned


def test_products_of_files_without_image_statistics_are_read_with_their_old_digest(tmp_path: Path):
    product = random_product()
    assert product.digest == "4bac677a6d23549b0dd78f47169718035dd09028ad5a90f9206eeef51b27f823"
    products_of("0" * 64, product).write(tmp_path / "old.products")
    document = json.loads((tmp_path / "old.products").read_text())
    del document["products"][0]["image_statistics"]
    (tmp_path / "old.products").write_text(json.dumps(document))
    assert Products.read(tmp_path / "old.products").products == (product,)


def test_changed_image_statistics_are_damage(tmp_path: Path):
    flat = learn_statistics([measure_image(textured(seed, 64)) for seed in range(3)])
    product = dataclasses.replace(random_product(), image_statistics=flat).sealed()
    products_of("0" * 64, product).write(tmp_path / "new.products")
    document = json.loads((tmp_path / "new.products").read_text())
    document["products"][0]["image_statistics"]["light"]["mean"] += 0.1
    (tmp_path / "new.products").write_text(json.dumps(document))
    with pytest.raises(EngineError, match="changed or damaged"):
        Products.read(tmp_path / "new.products")


def test_statistics_that_no_image_has_are_refused(tmp_path: Path):
    flat = learn_statistics([measure_image(textured(seed, 64)) for seed in range(3)])
    light = dataclasses.replace(flat.light, mean=-1000.0)  # e^1000 is not a number that Python has
    product = dataclasses.replace(random_product(), image_statistics=dataclasses.replace(flat, light=light))
    products_of("0" * 64, product.sealed()).write(tmp_path / "new.products")
    with pytest.raises(EngineError, match="a statistic of its images"):
        Products.read(tmp_path / "new.products")
