"""Time several contenders in turn, so that drift of the machine affects all of them equally."""

from __future__ import annotations

import time
from typing import Any, Callable, Dict, List, Mapping

import numpy as np


def milliseconds(
    runs: Mapping[str, Callable[[np.ndarray], Any]], image: np.ndarray, rounds: int
) -> Dict[str, float]:
    """Return the median time of each contender for one image in ms, without the first round (warm-up)."""
    return {name: float(np.median(values)) for name, values in times(runs, image, rounds).items()}


def times(
    runs: Mapping[str, Callable[[np.ndarray], Any]], image: np.ndarray, rounds: int
) -> Dict[str, List[float]]:
    """Return the times of each contender in ms, one for each round after the first (warm-up).

    Each round begins with the next contender.
    """
    found: Dict[str, List[float]] = {name: [] for name in runs}
    order = list(runs)
    for _ in range(rounds + 1):
        for name in order:
            started = time.perf_counter()
            runs[name](image)
            found[name].append(1e3 * (time.perf_counter() - started))
        order = [*order[1:], order[0]]
    return {name: values[1:] for name, values in found.items()}
