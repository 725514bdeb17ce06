"""New good images against the calibration images."""

from __future__ import annotations

import shlex
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from adq_edge.core.errors import DataError, EngineError
from adq_edge.decision.check import (
    Exchangeability,
    ExchangeabilityCheck,
    check_exchangeability,
    false_reject_chance,
    rank_sum_chance,
)
from adq_edge.decision.fit import fit
from factories.decisions import good_image, write_good_images, write_scaled_engine

MANY = settings(deadline=None, max_examples=150)
SAMPLES = st.tuples(st.integers(1, 14), st.integers(2, 40), st.integers(0, 10_000), st.booleans())


@MANY
@given(SAMPLES)
def test_rank_sum_has_the_p_value_of_scipy(sample):
    new, old, seed, has_ties = sample
    generator = np.random.default_rng(seed)
    draw = (lambda n: generator.integers(0, 6, n)) if has_ties else (lambda n: generator.normal(0.3, 1, n))
    values = [np.asarray(draw(count), np.float32).astype(float) for count in (new, old)]
    expected = stats.mannwhitneyu(*values, alternative="greater").pvalue
    if len(np.unique(np.concatenate(values))) > 1:
        assert rank_sum_chance(*values) == pytest.approx(expected, abs=1e-9)


def test_equal_scores_show_no_difference():
    assert rank_sum_chance(np.ones(20), np.ones(30)) == 1.0


@MANY
@given(st.integers(1, 300), st.integers(20, 400), st.floats(0.05, 0.9), st.data())
def test_false_rejects_of_exchangeable_images_are_beta_binomial(images, calibration, rate, data):
    rejected = data.draw(st.integers(0, images))
    above = int(np.floor(rate * (calibration + 1) + 1e-9))
    expected = stats.betabinom.sf(rejected - 1, images, above, calibration + 1 - above)
    assert false_reject_chance(rejected, images, rate, calibration) == pytest.approx(expected, abs=1e-8)


def test_command_of_the_advice_is_one_that_a_shell_reads(tmp_path: Path):
    engine = write_scaled_engine(tmp_path / "e.onnx")
    fit(engine, good={"large bolt": write_good_images(tmp_path / "old parts", "bolt", 12)}, threads=1)
    new = write_brighter(tmp_path / "new", 12)
    (product,) = check_exchangeability(engine, new, "large bolt", threads=1).products
    command = shlex.split(product.advice.split("fit again with both: ")[1])
    assert command[4:7] == ["large bolt", "--good", str(tmp_path / "old parts")]


def test_false_alarms_are_as_rare_as_stated():
    generator = np.random.default_rng(0)
    chances = [rank_sum_chance(generator.normal(size=30), generator.normal(size=40)) for _ in range(2000)]
    assert stats.binomtest(sum(one <= 0.05 for one in chances), 2000, 0.05).pvalue > 0.01


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with an engine and its products bolt and nut."""
    folder = tmp_path_factory.mktemp("checked")
    engine = write_scaled_engine(folder / "e.onnx")
    good = {name: write_good_images(folder / name, name, 40) for name in ("bolt", "nut")}
    fit(engine, good=good, false_rejects=0.05, threads=1)
    return folder


def write_brighter(folder: Path, count: int) -> Path:
    folder.mkdir()
    for seed in range(count):
        image = good_image("bolt", 300 + seed).astype(int) + 12
        cv2.imwrite(str(folder / f"{seed}.png"), image.clip(0, 254).astype(np.uint8)[..., ::-1])
    return folder


def test_images_of_the_same_camera_show_no_difference(parts: Path, tmp_path: Path):
    new = write_good_images(tmp_path / "new", "bolt", 30, first=200)
    found = check_exchangeability(parts / "e.onnx", new, "bolt", threads=1)
    (product,) = found.products
    assert (product.result, product.images, product.calibration_images) == (
        Exchangeability.NO_DIFFERENCE,
        30,
        40,
    )
    assert [one.target for one in product.rates] == [0.01, 0.02, 0.05]
    assert [one.is_estimate for one in product.rates] == [True, True, False]
    assert product.in_force == product.rates[2]
    assert product.in_force.low <= product.in_force.rejected / 30 <= product.in_force.high
    assert not found.has_difference
    found.write(tmp_path / "check.json")
    assert ExchangeabilityCheck.read(tmp_path / "check.json") == found


def test_images_under_brighter_light_score_higher(parts: Path, tmp_path: Path):
    found = check_exchangeability(parts / "e.onnx", write_brighter(tmp_path / "new", 20), "bolt", threads=1)
    (product,) = found.products
    assert found.has_difference
    assert product.chance < 1e-6
    assert "fit again with both: adq-edge fit ENGINE --product bolt" in product.advice
    assert f"--good {parts / 'bolt'} --good NEW" in product.advice


def test_few_images_are_not_enough(parts: Path, tmp_path: Path):
    new = write_good_images(tmp_path / "new", "nut", 4, first=200)
    (product,) = check_exchangeability(parts / "e.onnx", new, "nut", threads=1).products
    assert product.result is Exchangeability.TOO_FEW
    assert "Give 10 new images or more" in product.advice


def test_dataset_gives_a_check_of_each_product_in_it(parts: Path, tmp_path: Path):
    for name in ("bolt", "nut", "cap"):
        write_good_images(tmp_path / "data" / name / "test" / "good", name.replace("cap", "washer"), 12, 200)
        write_good_images(tmp_path / "data" / name / "train" / "good", "bolt", 1)
    found = check_exchangeability(parts / "e.onnx", tmp_path / "data", threads=1)
    assert [(one.name, one.images) for one in found.products] == [("bolt", 12), ("nut", 12)]


def test_images_of_a_dataset_that_a_product_was_fitted_with_are_refused(tmp_path: Path):
    engine = write_scaled_engine(tmp_path / "e.onnx")
    good = write_good_images(tmp_path / "data" / "bolt" / "train" / "good", "bolt", 12)
    fit(engine, tmp_path / "data", threads=1)
    with pytest.raises(DataError, match=r"12 of 12 images are in the folders"):
        check_exchangeability(engine, good, "bolt", threads=1)
    (product,) = check_exchangeability(engine, write_brighter(tmp_path / "new", 20), threads=1).products
    assert "--product bolt --good OLD --good NEW" in product.advice


def test_copies_count_once_and_unreadable_images_are_counted(parts: Path, tmp_path: Path):
    new = write_good_images(tmp_path / "new", "bolt", 12, first=200)
    (new / "copy.png").write_bytes((new / "200.png").read_bytes())
    (new / "x.png").write_bytes(b"no image")
    (product,) = check_exchangeability(parts / "e.onnx", new, "bolt", threads=1).products
    assert (product.images, product.not_judged) == (12, 1)


def test_impossible_folders_are_refused(parts: Path, tmp_path: Path):
    engine = parts / "e.onnx"
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no such folder of good images"):
        check_exchangeability(engine, tmp_path / "missing", "bolt", threads=1)
    with pytest.raises(DataError, match="no images in this folder"):
        check_exchangeability(engine, tmp_path / "empty", "bolt", threads=1)
    with pytest.raises(DataError, match="the product of its images is not given"):
        check_exchangeability(engine, tmp_path / "empty", threads=1)
    with pytest.raises(DataError, match=r"40 of 40 images are in the folders that 'bolt' was fitted with"):
        check_exchangeability(engine, parts / "bolt", "bolt", threads=1)
    with pytest.raises(EngineError, match="has no product 'cap'"):
        check_exchangeability(engine, tmp_path / "empty", "cap", threads=1)
