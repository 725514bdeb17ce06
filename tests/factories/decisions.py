"""Engines, images, maps and products for tests of decisions."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Dict, Sequence, Tuple

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper

from adq_edge.artifacts.products import (
    Evidence,
    EvidenceKind,
    LabeledThreshold,
    Positions,
    Product,
    Products,
    Recognition,
    Transform,
    plain,
)
from adq_edge.decision.learning import WAYS, GoodImages, PastedImages
from adq_edge.decision.maps import Maps
from adq_edge.runtimes.base import Output
from factories.tiny_engine import SIZE, write_file

SCALE_SIZES = ((16, 16), (8, 8))
GOOD_COLORS = {"bolt": (60, 80, 100), "nut": (160, 150, 90), "washer": (90, 180, 200)}


def make_scaled_model(extreme: str = "ReduceMin") -> onnx.ModelProto:
    """Return a model with an embedding and two scale maps, whose map of a white image is infinite.

    The map is brightness / (255 - smallest value of the image), the embedding the mean color. With
    `ReduceMax` a single white pixel makes the map infinite.
    """
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["pixels"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("ReduceMean", ["planes"], ["embedding"], axes=[2, 3], keepdims=0),
        helper.make_node("ReduceMean", ["planes"], ["gray"], axes=[1], keepdims=1),
        helper.make_node(extreme, ["planes"], ["extreme"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Constant", [], ["white"], value_float=255.0),
        helper.make_node("Sub", ["white", "extreme"], ["rest"]),
        helper.make_node("Div", ["gray", "rest"], ["relative"]),
        helper.make_node("Squeeze", ["relative", "axis"], ["anomaly_map"]),
        helper.make_node("ReduceMax", ["anomaly_map"], ["anomaly_score"], axes=[1, 2], keepdims=0),
        helper.make_node("AveragePool", ["relative"], ["half"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Squeeze", ["half", "axis"], ["scale_map_1"]),
        helper.make_node("AveragePool", ["relative"], ["quarter"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Squeeze", ["quarter", "axis"], ["scale_map_2"]),
    ]
    nodes.insert(0, helper.make_node("Constant", [], ["axis"], value_ints=[1]))
    sizes = {"anomaly_map": (SIZE, SIZE), "anomaly_score": (), "embedding": (3,)}
    sizes.update({f"scale_map_{number}": size for number, size in enumerate(SCALE_SIZES, 1)})
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *size]) for name, size in sizes.items()
    ]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", SIZE, SIZE, 3])
    graph = helper.make_graph(nodes, "scaled", [image], outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def write_scaled_engine(path: Path, extreme: str = "ReduceMin", **changes: Any) -> Path:
    """Write an engine with the model of `make_scaled_model`."""
    content = make_scaled_model(extreme).SerializeToString()
    return write_file(path, content, embedding_size=3, scale_sizes=SCALE_SIZES, **changes)


def good_image(product: str, seed: int, size: int = SIZE) -> np.ndarray:
    """Return a good image: the product's color with a gradient and noise."""
    generator = np.random.default_rng([seed, len(product)])
    slope = np.linspace(0.0, 30.0, size)[:, None, None]
    image = np.array(GOOD_COLORS[product], float) + slope + generator.normal(0.0, 4.0, (size, size, 3))
    return np.asarray(image.clip(0, 230), np.uint8)


def defective_image(product: str, seed: int, size: int = SIZE) -> np.ndarray:
    """Return a good image with a bright square."""
    image = good_image(product, seed, size)
    image[size // 4 : size // 2, size // 4 : size // 2] = 250
    return image


def write_good_images(folder: Path, product: str, count: int, first: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(first, first + count):
        image = good_image(product, seed)
        cv2.imwrite(str(folder / f"{seed:03}.png"), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return folder


def random_maps(
    generator: np.random.Generator,
    count: int,
    raw_size: Tuple[int, int] = (16, 16),
    deep_size: Tuple[int, int] = (8, 8),
) -> Maps:
    """Return positive maps of exchangeable images."""
    raw, deep = (
        np.exp(generator.normal(0.0, 0.5, (count, *size))).astype(np.float32)
        for size in (raw_size, deep_size)
    )
    return Maps(raw, deep, raw.reshape(count, -1).max(axis=1))


def good_images(generator: np.random.Generator, maps: Maps) -> GoodImages:
    names = tuple(f"{number:03}.png" for number in range(len(maps)))
    return GoodImages(names, maps, generator.normal(0.0, 1.0, (len(maps), 4)).astype(np.float32))


def paste_in_deep_map(maps: Maps, amount: float) -> PastedImages:
    """Return images whose defect raises one position of the deep map, and nothing of the engine's map."""
    deep = maps.deep.copy()
    deep[:, 3:5, 3:5] *= np.float32(amount)
    return PastedImages(Maps(maps.raw, deep, maps.scores), np.arange(len(maps)))


def paste_in_raw_map(maps: Maps, amount: float) -> PastedImages:
    """Return images whose defect raises the engine's map and score, and nothing of the deep map."""
    raw = maps.raw.copy()
    raw[:, 3:7, 3:7] *= np.float32(amount)
    return PastedImages(Maps(raw, maps.deep, raw.reshape(len(maps), -1).max(axis=1)), np.arange(len(maps)))


def random_product(
    name: str = "bolt",
    seed: int = 0,
    images: int = 30,
    kinds: Sequence[EvidenceKind] = (EvidenceKind.RAW,),
    raw_size: Tuple[int, int] = (SIZE, SIZE),
    deep_size: Tuple[int, int] = SCALE_SIZES[-1],
    embedding: int = 3,
    log: bool = True,
) -> Product:
    """Return a product with random statistics; by default one of the engine of `write_scaled_engine`."""
    generator = np.random.default_rng([seed, 7])

    def positions(size: Tuple[int, int]) -> Positions:
        mean = generator.normal(0.0, 1.0, size).astype(np.float32).ravel()
        spread = generator.uniform(0.5, 2.0, size).astype(np.float32).ravel()
        return Positions(size, plain(mean), plain(spread))

    def ascending(high: float) -> Tuple[float, ...]:
        return plain(np.sort(generator.uniform(0.0, high, images).astype(np.float32)))

    transform = Transform(log, 1e-4 if log else 0.0)
    scores = ascending(3.0)
    return Product(
        name=name,
        images=images,
        sources=("images",),
        raw=transform,
        deep=transform,
        evidence=tuple(Evidence(kind, *plain(generator.uniform(0.5, 1.5, 2))) for kind in kinds),
        raw_positions=positions(raw_size),
        deep_positions=positions(deep_size),
        scores=scores,
        peaks=scores,
        recognition=Recognition(plain(generator.uniform(0.0, 255.0, embedding)), ascending(20.0)),
    ).sealed()


def products_of(engine_sha256: str, *products: Product) -> Products:
    return Products(engine_sha256, "onnxruntime", 0.05, tuple(sorted(products, key=lambda one: one.name)))


MAP_SHAPES: Dict[str, Any] = {
    "two scale maps": ((32, 32), ((16, 16), (8, 8)), (32, 32), (8, 8)),
    "large and not square": ((100, 130), ((50, 65), (13, 17)), (34, 44), (13, 17)),
    "large scale map": ((20, 24), ((70, 84),), (20, 24), (35, 42)),
    "no scale maps": ((64, 50), (), (64, 50), (16, 13)),
}
"""Sizes of the engine's map and scale maps, and of both maps after the reduction."""


def random_products(generator, raw_size, deep_size, log) -> Products:
    products = []
    for number in range(3):
        kinds = WAYS[int(generator.integers(len(WAYS)))] if number else (EvidenceKind.DEEP_POSITION,)
        images = int(generator.choice([5, 12, 60, 150]))
        product = random_product(
            f"p{number}", int(generator.integers(10**6)), images, kinds, raw_size, deep_size, 3, log
        )
        if number == 2:
            labeled = LabeledThreshold(1.0, "f1", None, None, "data", 3, 3)
            product = dataclasses.replace(product, threshold=labeled).sealed()
        products.append(product)
    return Products("0" * 64, "onnxruntime", float(generator.choice([0.3, 0.05, 0.004])), tuple(products))


def random_output(generator, products: Products, map_size, scale_sizes) -> Output:
    mean = np.array(products.products[int(generator.integers(3))].recognition.mean)
    embedding = mean + generator.normal(0.0, generator.choice([3.0, 30.0]), 3)
    level = generator.uniform(-3.0, 1.0)
    maps = [
        np.exp(generator.normal(level, 0.3, (1, *size))).astype(np.float32)
        for size in (map_size, *scale_sizes)
    ]
    score = np.exp(generator.normal(level + 1.0, 1.0, 1)).astype(np.float32)
    return Output(maps[0], score, embedding[None].astype(np.float32), tuple(maps[1:]))
