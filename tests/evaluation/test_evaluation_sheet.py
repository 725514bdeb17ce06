"""The sheet of `eval`: which images are on it, what it shows, and its size."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import List

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adq_edge.core.errors import AdqError, DataError
from adq_edge.core.images import imaging
from adq_edge.core.images.folders import find_images
from adq_edge.evaluation.evaluate import Evaluation, ImageScore, evaluate
from adq_edge.evaluation.evaluation_sheet import (
    LARGEST_SHEET,
    MOST_IMAGES,
    choose_images,
    cut_evaluation_sheet,
    describe_image,
)
from factories.images import write_dataset
from factories.tiny_engine import write_engine


def scores_of(*images: tuple) -> List[ImageScore]:
    """Return scores of (category, defect, score)."""
    return [
        ImageScore(f"{number}.png", category, defect, score)
        for number, (category, defect, score) in enumerate(images)
    ]


def test_products_with_most_errors_come_first_and_each_gives_its_extremes():
    images = scores_of(
        *(("nut", "good", 0.1), ("nut", "good", 0.4), ("nut", "dent", 0.9), ("nut", "dent", 0.6)),
        *(("bolt", "good", 0.7), ("bolt", "good", 0.2), ("bolt", "dent", 0.8), ("bolt", "dent", 0.3)),
    )
    chosen = choose_images(images, 0.5)
    assert [(one.category, one.score) for one in chosen] == [
        *(("bolt", 0.8), ("bolt", 0.3), ("bolt", 0.7), ("nut", 0.9), ("nut", 0.6), ("nut", 0.4)),
        *(("bolt", 0.2), ("nut", 0.1)),
    ]
    assert [describe_image(one, 0.5) for one in chosen[:4]] == [
        *("defect found", "missed defect", "false reject", "defect found")
    ]
    assert describe_image(chosen[0], None) == "defect"  # no threshold, so no decision


names = st.sampled_from(["bolt", "nut", "gear", "cap", "pin"])
image = st.tuples(names, st.sampled_from(["good", "dent"]), st.floats(0, 1))


@given(st.lists(image, max_size=40), st.none() | st.floats(0, 1))
def test_choice_holds_the_extremes_of_a_product_and_no_image_twice(images, threshold):
    scores = scores_of(*images)
    chosen = choose_images(scores, threshold)
    assert len({one.image for one in chosen}) == len(chosen) == min(len(scores), len(chosen), MOST_IMAGES)
    if len({one.category for one in scores}) <= 4 and len(scores) <= MOST_IMAGES:
        assert len(chosen) == len(scores)
    for is_good, best in ((True, max), (False, max), (False, min)):
        first = [one for one in scores if one.category == (chosen[0].category if chosen else "")]
        values = [one.score for one in first if (one.defect == "good") is is_good]
        if values:
            assert best(values) in [one.score for one in chosen]


@pytest.fixture
def evaluated(tmp_path: Path) -> Evaluation:
    data = write_dataset(tmp_path / "data")
    return evaluate(
        write_engine(tmp_path / "tiny.onnx"), data, output=tmp_path / "results" / "tiny.eval.json"
    )


def test_sheet_lies_beside_the_result_and_shows_each_image_with_its_defect_and_map(evaluated: Evaluation):
    sheet = Path(evaluated.sheet)
    assert sheet.name == "tiny.eval.jpg"
    assert sheet.stat().st_size <= LARGEST_SHEET
    assert len(evaluated.sheet_images) == len(evaluated.scores) == MOST_IMAGES
    cells = cut_evaluation_sheet(imaging.read_image(sheet), MOST_IMAGES)
    defects = {one.image: one.defect != "good" for one in evaluated.scores}
    for name, cell in zip(evaluated.sheet_images, cells):
        assert cell.shape == (160, 320, 3)
        original = imaging.load_image(name, (160, 160)).astype(int)
        difference = np.abs(cell[:, :160].astype(int) - original).mean(axis=2)
        assert np.median(difference) < 12  # the same image
        red, green, blue = np.moveaxis(cell[:, :160].astype(int), 2, 0)
        assert ((red > green + 70) & (blue > green + 70)).any() == defects[name]  # the outline
    assert cut_evaluation_sheet(imaging.read_image(sheet), 3) is None


def test_sheet_is_never_judged(evaluated: Evaluation, tmp_path: Path):
    assert find_images(tmp_path / "results") == []
    with pytest.raises(DataError, match="a sheet or plot that adq-edge wrote"):
        imaging.read_product_image(evaluated.sheet)


def test_results_of_earlier_releases_have_no_sheet(evaluated: Evaluation, tmp_path: Path):
    path = tmp_path / "results" / "tiny.eval.json"
    document = json.loads(path.read_text())
    del document["sheet"], document["sheet_images"]
    path.write_text(json.dumps(document))
    assert Evaluation.read(path) == dataclasses.replace(evaluated, sheet=None, sheet_images=())


def test_foreign_image_beside_the_result_stops_eval_before_it_measures(tmp_path: Path):
    data = write_dataset(tmp_path / "data")
    photo = tmp_path / "part.jpg"
    photo.write_bytes(imaging.encode_jpeg(np.zeros((4, 4, 3), np.uint8), 10_000))
    before = photo.read_bytes()
    with pytest.raises(AdqError, match="part\\.jpg: "):
        evaluate(write_engine(tmp_path / "tiny.onnx"), data, output=tmp_path / "part.json")
    assert photo.read_bytes() == before
    assert not (tmp_path / "part.json").exists()


def test_noise_is_encoded_within_the_limit():
    noise = np.random.default_rng(0).integers(0, 256, (720, 960, 3), np.uint8)
    assert len(imaging.encode_jpeg(noise, LARGEST_SHEET)) <= LARGEST_SHEET
    flat = np.full((720, 960, 3), 90, np.uint8)
    assert np.array_equal(imaging.decode_image(imaging.encode_jpeg(flat, LARGEST_SHEET)), flat)
