"""Differences of two engines' products that flip verdicts, whatever the engines compute."""

from __future__ import annotations

from typing import Iterator, Sequence

from adq_edge.artifacts.products import listed
from adq_edge.core.text import command_line
from adq_edge.decision.conformal import percent
from adq_edge.decision.inspector import Inspector


def describe_differences(a: Inspector, b: Inspector, categories: Sequence[str]) -> Iterator[str]:
    """Yield the differences of the products of engines A and B, one sentence each.

    Args:
        a: engine A with its products.
        b: engine B with its products.
        categories: the categories of the compared images.
    """
    yield from _describe_missing(a, b, categories)
    yield from _describe_missing(b, a, categories)
    if a.false_rejects != b.false_rejects:
        yield (
            f"the false-reject rates differ: {percent(a.false_rejects)} for A and {percent(b.false_rejects)} "
            "for B. Store one rate: adq-edge fit ENGINE --false-rejects RATE"
        )
    both = [name for name in categories if name in a.products.names and name in b.products.names]
    rules = [name for name in both if a.labeled_threshold(name) != b.labeled_threshold(name)]
    if rules:
        yield f"the thresholds from labeled images differ: {listed(rules)}"
    images = [name for name in both if a.products.named(name).images != b.products.named(name).images]
    if images:
        yield f"A and B learned these products from different numbers of good images: {listed(images)}"


def _describe_missing(one: Inspector, other: Inspector, categories: Sequence[str]) -> Iterator[str]:
    """Yield the categories that are a product of the other engine alone."""
    names = [name for name in categories if name in other.products.names and name not in one.products.names]
    if names:
        path = one.engine.path
        yield (
            f"{path} has no product {listed(names)}, so both engines recognize the product on these images. "
            f"Learn it: {command_line('fit', path, '--data', 'DIR')}"
        )
