"""What an inspection adds to the run of its engine: product, p-value, verdict and regions.

    python -m benchmarks.inspection ENGINE --data DIR [--rounds 300] [--name inspection]

ENGINE has products of the dataset DIR (`adq-edge fit`). For each product, the first good test image is given
as an array of the engine's size. The run of the engine, an inspection with this product alone and one with 15
products (those of the engine, repeated under other names) take turns on one thread, in an order that rotates.
Writes benchmarks/published/NAME.json and .md.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any, Callable, Dict, List

import numpy as np

from adq_edge.artifacts.products import Product, Products
from adq_edge.core.images.imaging import load_image
from adq_edge.datasets.dataset import Category, read_dataset
from adq_edge.decision.inspector import Inspector, load_inspector
from adq_edge.hardware.environment import read_environment
from benchmarks.published import publish
from benchmarks.timing import times

MANY = 15
_LIMIT_MS = 0.5
_RUN, _ONE, _MANY = "run", "one", "many"


def repeated(products: Products, count: int) -> Products:
    """Return the products with repetitions under other names, `count` in all."""
    own = products.products
    added = (own[number % len(own)] for number in range(count - len(own)))
    copies = (dataclasses.replace(one, name=f"copy {number}").sealed() for number, one in enumerate(added))
    return products.with_products(copies)


def measure(inspector: Inspector, product: Product, image: np.ndarray, rounds: int) -> Dict[str, Any]:
    """Return the times of a product in ms: medians, fastest rounds, and what a round adds."""
    engine, products = inspector.engine, inspector.products
    one = Inspector(engine, dataclasses.replace(products, products=(product,)))
    many = Inspector(engine, repeated(products, MANY))
    contenders: Dict[str, Callable[[np.ndarray], Any]] = {
        _RUN: lambda pixels: engine.run(pixels[np.newaxis]),
        _ONE: one.inspect,
        _MANY: many.inspect,
    }
    found = {name: np.array(values) for name, values in times(contenders, image, rounds).items()}
    figures: Dict[str, Any] = {
        "product": product.name,
        "evidence": [evidence.kind.value for evidence in product.evidence],
        "verdict": one.inspect(image).verdict.value,
        "run_p50_ms": float(np.median(found[_RUN])),
        "run_fastest_ms": float(found[_RUN].min()),
    }
    for name in (_ONE, _MANY):
        figures[f"{name}_p50_ms"] = float(np.median(found[name]))
        figures[f"{name}_added_ms"] = float(np.median(found[name] - found[_RUN]))
        figures[f"{name}_added_fastest_ms"] = float(found[name].min() - found[_RUN].min())
    return figures


def first_good_test_image(category: Category) -> Path:
    """Return the first good test image of a category."""
    return next(sample.path for sample in category.test if not sample.is_anomalous)


def row(figures: Dict[str, Any]) -> List[str]:
    """Return the table row of a product."""
    return [
        f"{figures['product']} ({', '.join(figures['evidence'])})",
        f"{figures['run_p50_ms']:.2f}",
        *(
            f"{figures[f'{name}_added_ms']:.2f} ({figures[f'{name}_added_fastest_ms']:.2f})"
            for name in (_ONE, _MANY)
        ),
        f"{_LIMIT_MS}",
    ]


def main() -> None:
    """Measure the products in turn and publish the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("engine", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--name", default="inspection")
    options = parser.parse_args()
    figures = []
    with load_inspector(options.engine, threads=1) as inspector:
        products = inspector.products
        sidecar = inspector.engine.sidecar
        for category in read_dataset(options.data, products.names).categories:
            image = load_image(first_good_test_image(category), sidecar.image_size)
            figures.append(measure(inspector, products.named(category.name), image, options.rounds))
    publish(
        options.name,
        f"What an inspection adds to the run of an engine: {sidecar.arch}, {sidecar.precision.value}, "
        f"{sidecar.runtime}, one thread, {options.rounds} rounds",
        [
            "product (evidence)",
            "run p50 ms",
            "added with 1 product: p50 (fastest) ms",
            f"added with {MANY} products: p50 (fastest) ms",
            "limit ms",
        ],
        [row(one) for one in figures],
        {"products": figures},
        read_environment(),
    )


if __name__ == "__main__":
    main()
