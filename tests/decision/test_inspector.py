"""Inspection of images: verdicts that fail safe, products, arguments and threads."""

from __future__ import annotations

import dataclasses
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from adq_edge.artifacts.products import LabeledThreshold, Products, products_path
from adq_edge.core.errors import AdqError, DataError, EngineError
from adq_edge.core.files import sha256
from adq_edge.decision.fit import fit
from adq_edge.decision.inspector import Inspector, Verdict, load_inspector
from adq_edge.runtimes.base import Output
from adq_edge.runtimes.registry import load_engine
from factories.decisions import (
    defective_image,
    good_image,
    products_of,
    random_product,
    write_good_images,
    write_scaled_engine,
)
from factories.tiny_engine import SIZE, write_engine

IMAGES = 24


def fit_parts(engine: Path, folder: Path) -> Path:
    good = {name: write_good_images(folder / name, name, IMAGES) for name in ("bolt", "nut")}
    fit(engine, good=good, false_rejects=0.05, threads=1)
    return engine


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an engine with an embedding, two scale maps, and the products bolt and nut."""
    folder = tmp_path_factory.mktemp("fitted")
    return fit_parts(write_scaled_engine(folder / "e.onnx"), folder)


@pytest.fixture
def inspector(fitted: Path):
    with load_inspector(fitted, threads=1) as found:
        yield found


def test_good_and_defective_images_of_each_product(inspector: Inspector):
    for name in ("bolt", "nut"):
        good = inspector.inspect_batch([good_image(name, seed) for seed in range(500, 540)])
        assert {one.product for one in good} == {name}
        assert sum(one.verdict is Verdict.GOOD for one in good) >= 34
        bad = inspector.inspect(defective_image(name, 600), product=name)
        assert (bad.verdict, bad.product) == (Verdict.DEFECTIVE, name)
        assert bad.score > bad.threshold
        assert bad.p_value <= bad.false_rejects == 0.05
        x, y, width, height = bad.regions[0].box
        assert x <= SIZE // 4 + 1
        assert y <= SIZE // 4 + 1
        assert x + width >= SIZE // 2 - 1
        assert y + height >= SIZE // 2 - 1


def test_image_of_no_product_is_unknown_and_never_good(inspector: Inspector):
    found = inspector.inspect(good_image("washer", 1))
    assert found.verdict is Verdict.UNKNOWN_PRODUCT
    assert "from the nearest product" in str(found.reason)
    named = inspector.inspect(good_image("washer", 1), product="bolt")
    assert named.verdict is not Verdict.UNKNOWN_PRODUCT
    assert named.product_distance > 1.0


def test_engine_without_scale_maps_and_embedding_recognizes_and_judges(tmp_path: Path):
    engine = fit_parts(write_engine(tmp_path / "plain.onnx"), tmp_path)
    with load_inspector(engine, threads=1) as inspector:
        assert len(inspector.products.products[0].recognition.mean) == 192
        for name in ("bolt", "nut"):
            assert inspector.inspect(good_image(name, 500)).product == name
            named = inspector.inspect(defective_image(name, 501), product=name)
            assert named.verdict is Verdict.DEFECTIVE
        assert inspector.inspect(good_image("washer", 1)).verdict is Verdict.UNKNOWN_PRODUCT


def test_infinite_output_cannot_be_judged(inspector: Inspector):
    image = np.full((SIZE, SIZE, 3), 255, np.uint8)
    for product in (None, "bolt"):
        found = inspector.inspect(image, product=product)
        assert found.verdict is Verdict.CANNOT_JUDGE
        assert "is NaN or infinite" in found.reason


@pytest.mark.parametrize("part", ["maps", "scores", "embeddings", "scale_maps"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_output_that_is_not_finite_is_never_good(inspector: Inspector, part: str, value: float):
    batch = good_image("bolt", 3)[None]
    output = inspector.engine.run(batch)
    assert inspector.judge(output, batch, (SIZE, SIZE), "x").verdict is Verdict.GOOD
    changed = getattr(output, part)
    arrays = [np.array(one) for one in (changed if isinstance(changed, tuple) else [changed])]
    arrays[-1].ravel()[0] = value
    hostile = output._replace(**{part: tuple(arrays) if isinstance(changed, tuple) else arrays[0]})
    found = inspector.judge(hostile, batch, (SIZE, SIZE), "x")
    assert found.verdict is Verdict.CANNOT_JUDGE
    assert (found.score, found.p_value, found.product) == (None, None, None)


@pytest.mark.parametrize("value", [3e38, -3e38])
@pytest.mark.parametrize("log", [True, False])
def test_huge_outputs_are_never_good_and_have_a_json_line(fitted: Path, value: float, log: bool):
    products = products_of(sha256(fitted), random_product(log=log))
    output = Output(
        np.full((1, SIZE, SIZE), value, np.float32),
        np.full(1, value, np.float32),
        np.full((1, 3), value, np.float32),
        tuple(np.full((1, side, side), value, np.float32) for side in (16, 8)),
    )
    with Inspector(load_engine(fitted, threads=1), products) as inspector:
        for index in (None, 0):
            found = inspector.judge(output, good_image("bolt", 1)[None], (SIZE, SIZE), "x", index)
            without_maps = dataclasses.replace(found, anomaly_map=None, raw_map=None)
            json.dumps(dataclasses.asdict(without_maps), allow_nan=False)
            if value > 0 or index is None:
                assert found.verdict is not Verdict.GOOD


def test_file_that_cannot_be_read_cannot_be_judged(inspector: Inspector, tmp_path: Path):
    (tmp_path / "x.png").write_bytes(b"no image")
    for found in inspector.inspect_batch([tmp_path / "x.png", str(tmp_path / "missing.png")]):
        assert found.verdict is Verdict.CANNOT_JUDGE
        assert found.reason


def test_path_array_and_batch_give_the_same_result(inspector: Inspector, tmp_path: Path):
    path = write_good_images(tmp_path, "bolt", 1, first=700) / "700.png"
    image = good_image("bolt", 700)
    results = [
        inspector.inspect(path),
        inspector.inspect(str(path)),
        inspector.inspect(image),
        *inspector.inspect_batch(image[None]),
    ]
    assert len({(one.score, one.p_value, one.verdict, one.product) for one in results}) == 1
    assert results[0].image == str(path)


def test_one_path_is_no_list_of_images(inspector: Inspector):
    with pytest.raises(DataError, match="not a list of images"):
        inspector.inspect_batch("part.png")


@pytest.mark.parametrize("image", [np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)])
def test_other_arrays_are_refused(inspector: Inspector, image: np.ndarray):
    with pytest.raises(DataError, match=r"Give uint8 \[H, W, 3\]"):
        inspector.inspect(image)


@pytest.mark.parametrize("rate", [0.0, 1.0, -1.0, 1e-300, float("nan"), float("inf")])
def test_impossible_rate_is_refused(fitted: Path, rate: float):
    with pytest.raises(AdqError, match="a false-reject rate of"):
        load_inspector(fitted, false_rejects=rate, threads=1)


def test_unknown_product_is_refused_with_the_known_ones(inspector: Inspector, fitted: Path):
    with pytest.raises(EngineError, match=r"has no product 'cap'\. Products: bolt, nut"):
        inspector.inspect(good_image("bolt", 1), product="cap")
    with pytest.raises(EngineError, match="has no product 'cap'"):
        load_inspector(fitted, product="cap", threads=1)


def test_rate_of_a_call_replaces_that_of_the_file_and_a_labeled_threshold(fitted: Path):
    products = Products.read(products_path(fitted))
    labeled = LabeledThreshold(-50.0, "f1", None, None, "data", 3, 3)
    changed = [dataclasses.replace(one, threshold=labeled).sealed() for one in products.products]
    products, image = products.with_products(changed), good_image("bolt", 500)
    with Inspector(load_engine(fitted, threads=1), products) as inspector:
        found = inspector.inspect(image)
        assert (found.verdict, found.threshold, found.false_rejects) == (Verdict.DEFECTIVE, -50.0, None)
    with Inspector(load_engine(fitted, threads=1), products, false_rejects=0.02) as inspector:
        found = inspector.inspect(image)
        assert (found.verdict, found.false_rejects) == (Verdict.GOOD, 0.02)


def test_part_with_smaller_regions_than_the_least_area_is_good(fitted: Path):
    image = good_image("bolt", 500)
    image[3, 3] = 200
    with load_inspector(fitted, threads=1) as inspector:
        found = inspector.inspect(image)
        assert found.verdict is Verdict.DEFECTIVE
    with load_inspector(fitted, min_area=found.regions[0].area + 1.0, threads=1) as inspector:
        assert inspector.inspect(image).verdict is Verdict.GOOD
        assert inspector.inspect(defective_image("bolt", 1), product="bolt").verdict is Verdict.DEFECTIVE


@pytest.mark.parametrize("arguments", [{"false_rejects": "1%"}, {"min_area": "40"}, {"min_share": [0.1]}])
def test_argument_that_is_no_number_is_refused(fitted: Path, arguments):
    with pytest.raises(AdqError, match="is not a number"):
        load_inspector(fitted, **arguments)


def test_least_area_of_the_whole_image_or_more_calls_no_part_good(fitted: Path):
    image = defective_image("bolt", 1)
    with load_inspector(fitted, min_area=float(image.shape[0] * image.shape[1]), threads=1) as inspector:
        found = inspector.inspect(image)
    assert found.verdict is Verdict.CANNOT_JUDGE
    assert "smallest area" in found.reason


@pytest.mark.parametrize(
    "sizes", [{"raw_size": (16, 16)}, {"raw_size": (1, 1)}, {"deep_size": (1, 1)}, {"embedding": 4}]
)
def test_products_of_other_sizes_are_refused_in_one_line(fitted: Path, sizes):
    products = products_of(sha256(fitted), random_product(**sizes))
    with load_engine(fitted, threads=1) as engine, pytest.raises(EngineError, match="outputs of other sizes"):
        Inspector(engine, products)


def test_products_of_another_runtime_are_refused(tmp_path: Path):
    engine = write_scaled_engine(tmp_path / "e.onnx")
    products = products_of(sha256(engine), random_product())
    dataclasses.replace(products, runtime="openvino").write(products_path(engine))
    with pytest.raises(EngineError, match="fitted with openvino, not with onnxruntime"):
        load_inspector(engine, threads=1)


def test_engine_without_products_is_refused(tmp_path: Path):
    engine = write_engine(tmp_path / "e.onnx")
    with pytest.raises(EngineError, match=r"has no products\. Learn them from good images: adq-edge fit"):
        load_inspector(engine, threads=1)


def test_threads_give_the_results_of_one_thread(inspector: Inspector):
    images = [good_image(name, seed) for name in ("bolt", "nut", "washer") for seed in range(800, 820)]
    expected = inspector.inspect_batch(images)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(inspector.inspect, images))
    for one, other in zip(found, expected):
        assert dataclasses.replace(one, image=other.image) == other
        np.testing.assert_array_equal(one.anomaly_map, other.anomaly_map)
