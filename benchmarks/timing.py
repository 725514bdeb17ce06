"""Time several contenders in turn, so that drift of the machine affects all of them equally."""

from __future__ import annotations

import time
from typing import Any, Callable, Dict, List, Mapping

import numpy as np


def milliseconds(
    runs: Mapping[str, Callable[[np.ndarray], Any]], image: np.ndarray, rounds: int
) -> Dict[str, float]:
    """Return the median time of each contender for one image in ms, without the first round (warm-up)."""
    times: Dict[str, List[float]] = {name: [] for name in runs}
    for _ in range(rounds + 1):
        for name, run in runs.items():
            started = time.perf_counter()
            run(image)
            times[name].append(1e3 * (time.perf_counter() - started))
    return {name: float(np.median(values[1:])) for name, values in times.items()}
