"""Times of several contenders, in turn, so that drift of the machine hits all alike."""

from __future__ import annotations

import time
from typing import Any, Callable, Dict, List, Mapping

import numpy as np


def milliseconds(
    runs: Mapping[str, Callable[[np.ndarray], Any]], image: np.ndarray, rounds: int
) -> Dict[str, float]:
    """Return each one's median time for an image; the first round warms up and does not count."""
    times: Dict[str, List[float]] = {name: [] for name in runs}
    for _ in range(rounds + 1):
        for name, run in runs.items():
            started = time.perf_counter()
            run(image)
            times[name].append(1e3 * (time.perf_counter() - started))
    return {name: float(np.median(values[1:])) for name, values in times.items()}
