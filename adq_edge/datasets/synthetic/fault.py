"""The fault that a painter draws into a product."""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Fault:
    """One defect of a product: a missing, bent or swapped part, a misprint, or surface damage.

    A painter draws all random numbers of the sound product from its own generator, with or without a fault.
    So the faulty product differs from its sound twin by the fault only.

    Attributes:
        kind: the kind of defect, a name in `DEFECTS`.
        rng: the source of the fault's own randomness.
        strength: 1 is usual; more where a weaker fault would not be visible.
    """

    kind: str
    rng: np.random.Generator
    strength: float = 1.0
