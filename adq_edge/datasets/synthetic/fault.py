"""A structural fault: something about the product itself that is drawn wrongly."""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Fault:
    """Asks a product's painter to draw it with a part missing, bent, swapped or misprinted.

    A painter takes every random choice about the sound product from its own generator, whether or not there
    is a fault, so the faulty product differs from its sound twin by the fault only.

    Attributes:
        kind: the kind of defect, a name in `DEFECTS`.
        rng: the source of the fault's own randomness.
        strength: how marked it is; 1 is usual, more where a weaker one could not be seen.
    """

    kind: str
    rng: np.random.Generator
    strength: float = 1.0
