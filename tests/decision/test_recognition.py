"""Recognition of products by their embeddings."""

from __future__ import annotations

import dataclasses

import numpy as np

from adq_edge.decision.recognition import Recognizer, learn_recognition, thumbnail_embedding
from factories.decisions import good_image, random_product

GENERATOR = np.random.default_rng(0)
CENTERS = np.array([[0.0, 0.0, 0.0], [100.0, 0.0, 0.0], [0.0, 100.0, 0.0]], np.float32)


def around(center, count, spread=1.0):
    return (center + GENERATOR.normal(0.0, spread, (count, 3))).astype(np.float32)


def folds(count, number=10):
    return np.array_split(np.arange(count), number)


def recognizer(count=200):
    products = [random_product(str(number)) for number in range(3)]
    found = [learn_recognition(around(center, count), folds(count)) for center in CENTERS]
    return Recognizer(
        [dataclasses.replace(product, recognition=one) for product, one in zip(products, found)]
    )


def test_image_belongs_to_the_nearest_product():
    found = recognizer()
    for index, center in enumerate(CENTERS):
        assert all(found.recognize(one).index == index for one in around(center, 50))


def test_good_images_are_known_and_those_of_other_products_are_not():
    found = recognizer()
    known = [found.recognize(one).is_known for center in CENTERS for one in around(center, 200)]
    assert np.mean(known) >= 0.98
    assert not any(found.recognize(one).is_known for one in around(np.array([50.0, 50.0, 50.0]), 50))


def test_distance_to_a_given_product_is_relative_to_its_own_images():
    found = recognizer()
    image = around(CENTERS[1], 1)[0]
    assert found.relative_distance(1, image) == found.recognize(image)
    assert found.relative_distance(0, image).distance > 1.5


def test_few_images_know_all_of_their_own():
    images = around(CENTERS[0], 6)
    product = dataclasses.replace(random_product(), recognition=learn_recognition(images, folds(6, 6)))
    assert all(Recognizer([product]).recognize(one).is_known for one in images)


def test_distances_are_those_of_images_that_the_mean_was_made_without():
    images = around(CENTERS[0], 8)
    found = learn_recognition(images, folds(8, 8))
    expected = sorted(np.linalg.norm(images[i] - np.delete(images, i, 0).mean(0)) for i in range(8))
    np.testing.assert_allclose(found.distances, expected, rtol=1e-5)


def test_huge_embedding_is_an_unknown_product_at_a_finite_distance():
    found = recognizer().recognize(np.full(3, 3e38, np.float32))
    assert not found.is_known
    assert np.isfinite(found.distance)


def test_thumbnails_tell_products_apart():
    images = np.stack([good_image(name, seed) for name in ("bolt", "nut") for seed in range(4)])
    found = thumbnail_embedding(images)
    assert found.shape == (8, 192)
    assert found.dtype == np.float32
    within = np.linalg.norm(found[0] - found[1])
    assert np.linalg.norm(found[0] - found[4]) > 5 * within
