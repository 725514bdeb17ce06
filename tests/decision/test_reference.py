"""The reference in docs/decisions.md makes the decisions of the inspector."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Dict

import numpy as np
import pytest

from adq_edge.artifacts.products import EvidenceKind, LabeledThreshold, Products
from adq_edge.artifacts.sidecar import read_sidecar
from adq_edge.decision.inspector import Inspector
from adq_edge.decision.learning import WAYS
from adq_edge.runtimes.base import Engine, Output
from factories.decisions import random_product
from factories.paths import REPOSITORY
from factories.tiny_engine import write_engine

PAGE = REPOSITORY / "docs" / "decisions.md"
SHAPES: Dict[str, Any] = {
    "two scale maps": ((32, 32), ((16, 16), (8, 8)), (32, 32), (8, 8)),
    "large and not square": ((100, 130), ((50, 65), (13, 17)), (34, 44), (13, 17)),
    "large scale map": ((20, 24), ((70, 84),), (20, 24), (35, 42)),
    "no scale maps": ((64, 50), (), (64, 50), (16, 13)),
}
"""Sizes of the engine's map and scale maps, and of both maps after the reduction."""


class DescribedEngine(Engine):
    """An engine that is never run: `judge` gets the outputs."""

    runtime, runtime_version = "onnxruntime", "1"

    def _run(self, images):
        raise NotImplementedError

    def operators(self):
        return {}

    def close(self):
        """Do nothing."""


@pytest.fixture(scope="module")
def reference():
    code = PAGE.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    lines = [line for line in code.splitlines() if line.strip()]
    assert len(lines) <= 60
    assert [line for line in lines if "import" in line] == ["import json", "import numpy as np"]
    found: Dict[str, Any] = {}
    exec(compile(code, str(PAGE), "exec"), found)
    return found["decide"]


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


@pytest.mark.parametrize("log", [True, False])
@pytest.mark.parametrize("shapes", SHAPES.values(), ids=SHAPES)
def test_reference_in_numpy_makes_the_decisions_of_the_inspector(tmp_path: Path, reference, shapes, log):
    map_size, scale_sizes, raw_size, deep_size = shapes
    generator, verdicts = np.random.default_rng([len(scale_sizes), map_size[0], log]), set()
    sidecar = dataclasses.replace(
        read_sidecar(write_engine(tmp_path / "e.onnx")),
        map_size=map_size,
        scale_sizes=scale_sizes,
        embedding_size=3,
    )
    engine, path = DescribedEngine(tmp_path / "e.onnx", sidecar), tmp_path / "e.onnx.products"
    for _ in range(3):
        products = random_products(generator, raw_size, deep_size, log)
        products.write(path)
        for rate in (None, 0.02):
            inspector = Inspector(engine, Products.read(path), false_rejects=rate)
            for _ in range(6):
                output = random_output(generator, products, map_size, scale_sizes)
                found = inspector.judge(output, np.zeros((1, 32, 32, 3), np.uint8), (32, 32), "x")
                arrays = (output.maps[0], output.scores[0], output.embeddings[0])
                product, score, p_value, verdict = reference(
                    path, *arrays, [one[0] for one in output.scale_maps], rate
                )
                assert (product, verdict) == (found.product, found.verdict.value)
                assert score == pytest.approx(found.score, rel=1e-5, abs=1e-5)
                assert p_value == pytest.approx(found.p_value, rel=1e-3, abs=1e-9)
                verdicts.add(verdict)
    assert len(verdicts) >= 2


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_reference_never_calls_an_infinite_output_good(tmp_path: Path, reference, value):
    path = tmp_path / "e.onnx.products"
    random_products(np.random.default_rng(0), (32, 32), (8, 8), True).write(path)
    arrays = [np.ones((32, 32)), np.ones(()), np.ones(3), np.ones((8, 8))]
    for number in range(4):
        changed = [one.copy() for one in arrays]
        changed[number].ravel()[:1] = value
        assert reference(path, *changed[:3], [changed[3]])[-1] == "cannot judge"
