"""The fault that a drawing function adds to a product."""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Fault:
    """One defect of a product: a missing, bent or swapped part, a misprint, or surface damage.

    A drawing function takes the product's random numbers from its own generator, with or without a fault. So
    a faulty product differs only by the fault from the sound product with the same seed (its sound twin).

    Attributes:
        kind: the kind of defect, a name in `DEFECTS`.
        rng: the random generator of the fault.
        strength: 1 is usual; larger if a weaker fault is not visible.
    """

    kind: str
    rng: np.random.Generator
    strength: float = 1.0
