"""A synthetic dataset like MVTec AD, for the demo and the tests: 15 categories with exact masks.

A product is drawn as layers of color, height and gloss (`canvas`, `textures`, `hardware`, `products`,
`electronics`). A defect is added (`defects`, `fault`). Then the image is rendered (`photograph`) and written
(`writer`).
"""

from __future__ import annotations

from adq_edge.datasets.synthetic.catalog import CATEGORIES, DEFECTS, Split, defects_of, render
from adq_edge.datasets.synthetic.writer import write_synthetic

__all__ = ["CATEGORIES", "DEFECTS", "Split", "defects_of", "render", "write_synthetic"]
