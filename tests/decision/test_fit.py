"""Fitting products: what is learned, kept, replaced and refused."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from adq_edge.artifacts.products import LabeledThreshold, Products, products_path
from adq_edge.artifacts.sidecar import sidecar_path
from adq_edge.core.errors import AdqError, DataError, EngineError
from adq_edge.core.files import sha256
from adq_edge.decision import fit as fit_module
from adq_edge.decision.fit import fit, list_products, remove_products
from factories.decisions import products_of, random_product, write_good_images, write_scaled_engine
from factories.images import write_dataset

IMAGES = 8


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with an engine, good images in bolt and nut, and a fitted bolt."""
    folder = tmp_path_factory.mktemp("parts")
    engine = write_scaled_engine(folder / "e.onnx")
    for name in ("bolt", "nut"):
        write_good_images(folder / name, name, IMAGES)
    fit(engine, good={"bolt": folder / "bolt"}, threads=1)
    return folder


@pytest.fixture
def engine(parts: Path, tmp_path: Path) -> Path:
    """Return a copy of the engine with its product."""
    for file in (parts / "e.onnx", sidecar_path(parts / "e.onnx"), products_path(parts / "e.onnx")):
        shutil.copy(str(file), str(tmp_path / file.name))
    return tmp_path / "e.onnx"


def texts_of(engine: Path):
    document = json.loads(products_path(engine).read_text())
    return {one["name"]: json.dumps(one) for one in document["products"]}


def test_adding_and_removing_a_product_leaves_the_other_bit_identical(engine: Path, parts: Path):
    before = products_path(engine).read_bytes()
    assert fit(engine, good={"nut": parts / "nut"}, threads=1).fitted == ("nut",)
    assert list_products(engine).products.names == ("bolt", "nut")
    assert texts_of(engine)["bolt"] == json.dumps(json.loads(before)["products"][0])
    remove_products(engine, ["nut"])
    assert products_path(engine).read_bytes() == before


def test_fitting_twice_gives_the_same_file(engine: Path, parts: Path):
    before = products_path(engine).read_bytes()
    fit(engine, good={"bolt": parts / "bolt"}, threads=1)
    assert products_path(engine).read_bytes() == before


def test_threshold_from_labeled_images_is_removed_by_a_new_fit_with_a_note(engine: Path, parts: Path):
    before = list_products(engine).products
    threshold = LabeledThreshold(9.0, "f1", None, None, "data", 8, 8)
    labeled = dataclasses.replace(before.named("bolt"), threshold=threshold).sealed()
    before.with_products([labeled]).write(products_path(engine))
    assert fit(engine, good={"nut": parts / "nut"}, threads=1).products.named("bolt").threshold == threshold
    result = fit(engine, good={"bolt": parts / "bolt"}, threads=1)
    assert result.products.named("bolt").threshold is None
    assert any("removed the thresholds from labeled images of bolt" in note for note in result.notes)


def test_images_that_do_not_fit_in_memory_are_read_again(engine: Path, parts: Path, monkeypatch):
    before = products_path(engine).read_bytes()
    monkeypatch.setattr("adq_edge.decision.collection._MOST_IN_MEMORY", 2)
    fit(engine, good={"bolt": parts / "bolt"}, threads=1)
    assert products_path(engine).read_bytes() == before


def test_dataset_gives_a_product_for_each_category(engine: Path, tmp_path: Path):
    found = fit(engine, write_dataset(tmp_path / "data"), threads=1)
    assert found.fitted == ("part0", "part1")
    assert found.products.names == ("bolt", "part0", "part1")
    assert found.products.named("part0").images == 6


def test_several_folders_and_copies_of_images(engine: Path, parts: Path, tmp_path: Path):
    shutil.copytree(str(parts / "nut"), str(tmp_path / "copies"))
    more = write_good_images(tmp_path / "more", "nut", 3, first=50)
    found = fit(engine, good={"nut": [parts / "nut", tmp_path / "copies", more]}, threads=1)
    assert found.products.named("nut").images == IMAGES + 3
    assert any("8 of 19 good images are copies" in note for note in found.notes)


def test_products_that_look_alike_are_named_with_their_confusion(engine: Path, tmp_path: Path):
    found = fit(engine, good={"screw": write_good_images(tmp_path / "s", "bolt", IMAGES, 90)}, threads=1)
    (note,) = [one for one in found.notes if "look alike" in one]
    assert note.startswith("screw and bolt look alike: ")
    assert "of 8 good images of screw are recognized as bolt" in note


def test_rate_is_stored_and_kept(engine: Path, parts: Path):
    assert (
        fit(engine, good={"nut": parts / "nut"}, false_rejects=0.2, threads=1).products.false_rejects == 0.2
    )
    assert fit(engine, good={"nut": parts / "nut"}, threads=1).products.false_rejects == 0.2


def test_damaged_file_is_never_replaced(engine: Path, parts: Path):
    path = products_path(engine)
    path.write_bytes(path.read_bytes()[:-100])
    before = path.read_bytes()
    with pytest.raises(EngineError, match=r"Restore it, or delete it and fit the products again"):
        fit(engine, good={"nut": parts / "nut"}, threads=1)
    with pytest.raises(EngineError, match="not a JSON file"):
        remove_products(engine, ["bolt"])
    assert path.read_bytes() == before


def test_products_of_another_engine_file_are_replaced_and_named(engine: Path, parts: Path):
    products_of("b" * 64, random_product("cap")).write(products_path(engine))
    found = fit(engine, good={"nut": parts / "nut"}, threads=1)
    assert found.products.names == ("nut",)
    assert any(note.startswith("removed cap: fitted with another engine file") for note in found.notes)


def test_product_that_another_process_wrote_meanwhile_is_kept(engine: Path, parts: Path, monkeypatch):
    check, calls = fit_module._require_same_engine, []

    def write_meanwhile(path: Path, sha: str) -> None:
        check(path, sha)
        if not calls:
            calls.append(path)
            merged = Products.read(products_path(engine)).with_products([random_product("cap")])
            products_path(engine).write_text(json.dumps(merged.document()))

    monkeypatch.setattr(fit_module, "_require_same_engine", write_meanwhile)
    fit(engine, good={"nut": parts / "nut"}, threads=1)
    assert list_products(engine).products.names == ("bolt", "cap", "nut")


def test_engine_that_changed_meanwhile_keeps_its_products(engine: Path, parts: Path, monkeypatch):
    before = products_path(engine).read_bytes()
    learn = fit_module.learn

    def change_meanwhile(*args, **kwargs):
        with engine.open("ab") as file:
            file.write(b"x")
        return learn(*args, **kwargs)

    monkeypatch.setattr(fit_module, "learn", change_meanwhile)
    with pytest.raises(EngineError, match="was replaced during the fit; nothing is stored"):
        fit(engine, good={"nut": parts / "nut"}, threads=1)
    assert products_path(engine).read_bytes() == before


def write_images(folder: Path, images) -> Path:
    folder.mkdir()
    for number, image in enumerate(images):
        cv2.imwrite(str(folder / f"{number}.png"), image)
    return folder


@pytest.mark.parametrize(
    ("images", "words"),
    [
        ([], "no images in this folder"),
        ([np.zeros((8, 8, 3), np.uint8)], "the product 'cap' has 1 different good image. Give at least 5"),
        ([np.zeros((8, 8, 3), np.uint8)] * 9, "has 1 different good image among 9 files"),
    ],
)
def test_too_few_good_images_are_refused(engine: Path, tmp_path: Path, images, words: str):
    folder, before = write_images(tmp_path / "cap", images), products_path(engine).read_bytes()
    with pytest.raises(DataError, match=words):
        fit(engine, good={"cap": folder}, threads=1)
    assert products_path(engine).read_bytes() == before


def test_unreadable_good_image_is_refused(engine: Path, tmp_path: Path):
    folder = write_good_images(tmp_path / "cap", "nut", 6)
    (folder / "x.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"x\.png"):
        fit(engine, good={"cap": folder}, threads=1)


def test_output_that_is_not_finite_is_refused(engine: Path, tmp_path: Path):
    images = [np.full((32, 32, 3), 250 + number, np.uint8) for number in range(6)]
    with pytest.raises(EngineError, match=r"5\.png is NaN or infinite"):
        fit(engine, good={"cap": write_images(tmp_path / "cap", images)}, threads=1)


def test_pasted_defects_whose_output_is_not_finite_are_left_out(parts: Path, tmp_path: Path):
    engine = write_scaled_engine(tmp_path / "hostile.onnx", "ReduceMax")
    found = fit(engine, good={"bolt": parts / "bolt"}, threads=1)
    assert found.products.named("bolt").images == IMAGES
    assert any("images with pasted defects have outputs that are not finite" in one for one in found.notes)


@pytest.mark.parametrize("name", ["", "a\nb", "b" * 101])
def test_impossible_name_is_refused(engine: Path, parts: Path, name: str):
    with pytest.raises(AdqError, match="is not a product's name"):
        fit(engine, good={name: parts / "nut"}, threads=1)


def test_category_that_cannot_be_a_product_is_refused_before_the_work(
    engine: Path, parts: Path, tmp_path: Path
):
    name = "b" * 101
    shutil.copytree(str(parts / "nut"), str(tmp_path / "data" / name / "train" / "good"))
    with pytest.raises(AdqError, match="is not a product's name"):
        fit(engine, tmp_path / "data", threads=1)


def test_missing_folder_is_refused(engine: Path, tmp_path: Path):
    with pytest.raises(DataError, match="no such folder of good images"):
        fit(engine, good={"cap": tmp_path / "missing"}, threads=1)


def test_unknown_product_is_not_removed(engine: Path):
    with pytest.raises(EngineError, match=r"has no product 'cap'\. Products: bolt"):
        remove_products(engine, ["bolt", "cap"])
    assert list_products(engine).products.names == ("bolt",)


def test_file_that_would_be_too_large_to_read_is_not_written(engine: Path, parts: Path, monkeypatch):
    before = products_path(engine).read_bytes()
    monkeypatch.setattr("adq_edge.artifacts.products._MOST_NUMBERS", 4000)
    with pytest.raises(EngineError, match=r"nothing is stored.*a file holds 4,000: remove products"):
        fit(engine, good={"nut": parts / "nut"}, threads=1)
    assert products_path(engine).read_bytes() == before


def test_images_of_other_sizes_are_scaled_and_named(engine: Path, parts: Path, tmp_path: Path):
    folder = tmp_path / "mixed"
    shutil.copytree(str(parts / "nut"), str(folder))
    cv2.imwrite(str(folder / "large.png"), np.full((90, 50, 3), 120, np.uint8))
    found = fit(engine, good={"nut": folder}, threads=1)
    assert any("good images of 2 sizes" in note for note in found.notes)
    assert found.products.engine_sha256 == sha256(engine)
