"""Finds products that look alike."""

from __future__ import annotations

from typing import Dict

import numpy as np

from adq_edge.artifacts.products import Products
from adq_edge.decision.recognition import Recognizer


def find_similar(products: Products) -> Dict[str, str]:
    """Return, for each product that looks like another one, the name of that one.

    Its mean embedding is then no further from the other product than the images of the other are.
    """
    found: Dict[str, str] = {}
    for product in products.products if len(products.products) > 1 else ():
        others = [one for one in products.products if one is not product]
        nearest = Recognizer(others).recognize(np.array(product.recognition.mean, np.float32))
        if nearest.is_known:
            found[product.name] = others[nearest.index].name
    return found
