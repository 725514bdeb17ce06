"""The reference in docs/decisions.md makes the decisions of the inspector."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Dict

import numpy as np
import pytest

from adq_edge.artifacts.products import Products
from adq_edge.artifacts.sidecar import read_sidecar
from adq_edge.decision.inspector import Inspector
from adq_edge.packaging.outputs_only import OutputsOnly
from factories.decisions import MAP_SHAPES, random_output, random_products
from factories.paths import REPOSITORY
from factories.tiny_engine import write_engine

PAGE = REPOSITORY / "docs" / "decisions.md"


@pytest.fixture(scope="module")
def reference():
    code = PAGE.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    lines = [line for line in code.splitlines() if line.strip()]
    assert len(lines) <= 60
    assert [line for line in lines if "import" in line] == ["import json", "import numpy as np"]
    found: Dict[str, Any] = {}
    exec(compile(code, str(PAGE), "exec"), found)
    return found["decide"]


@pytest.mark.parametrize("log", [True, False])
@pytest.mark.parametrize("shapes", MAP_SHAPES.values(), ids=MAP_SHAPES)
def test_reference_in_numpy_makes_the_decisions_of_the_inspector(tmp_path: Path, reference, shapes, log):
    map_size, scale_sizes, raw_size, deep_size = shapes
    generator, verdicts = np.random.default_rng([len(scale_sizes), map_size[0], log]), set()
    sidecar = dataclasses.replace(
        read_sidecar(write_engine(tmp_path / "e.onnx")),
        map_size=map_size,
        scale_sizes=scale_sizes,
        embedding_size=3,
    )
    engine, path = OutputsOnly(tmp_path / "e.onnx", sidecar), tmp_path / "e.onnx.products"
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
