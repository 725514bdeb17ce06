"""Measurements of the search for a plan: drop and latency of each engine."""

from __future__ import annotations

from typing import Dict, List, Optional, Sequence, Tuple

import numpy as np

from adq_edge.artifacts.precision_plan import Step
from adq_edge.benchmark.measurements import QUERIES_BEFORE_ROUND
from adq_edge.benchmark.schedule import settle
from adq_edge.benchmark.statistics import compare
from adq_edge.benchmark.timing import time_queries
from adq_edge.builders.mixed_precision.goal import Goal
from adq_edge.core.console import console
from adq_edge.core.errors import EngineError
from adq_edge.evaluation.scoring import score_images
from adq_edge.metrics.agreement import CONSTANT_MAPS, MapComparison
from adq_edge.metrics.quality import mean_image_auroc
from adq_edge.runtimes.base import Engine

_REMEDY = "Check the checkpoint: export it again"
_ROUNDS, _QUERIES = 6, 8
# Rounding tolerance: 0.9 - 0.898 must not exceed 0.002.
_ROUNDING = 1e-9


class Trials:
    """Measures INT8 engines with different numbers of float32 layers.

    Args:
        goal: the goal of the search.
        images: uint8 `[H, W, 3]` each.
        fp32: the reference engine.
        int8: the engine without float32 layers.
        layers: number of layers that the target computes in integers.

    Attributes:
        steps: the measured engines by their number of float32 layers.
        layers: number of layers that the target computes in integers.
    """

    def __init__(
        self, goal: Goal, images: Sequence[np.ndarray], fp32: Engine, int8: Engine, layers: int
    ) -> None:
        self.steps: Dict[int, Step] = {}
        self.layers = layers
        self._goal = goal
        self._images = images
        self._fp32 = fp32
        self._int8 = int8
        self._maps = _run_maps(fp32, images)
        if (
            len({value for anomaly_map in self._maps for value in (anomaly_map.min(), anomaly_map.max())})
            == 1
        ):
            raise EngineError(f"{CONSTANT_MAPS} (FP32 engine)", fix=_REMEDY)
        self._auroc = self._mean_auroc(fp32, "FP32")

    @property
    def images(self) -> int:
        """Number of images that the drop is measured on."""
        labeled = self._goal.labeled
        if labeled is None:
            return len(self._images)
        return sum(len(category.test) for category in labeled.categories)

    @property
    def runtime(self) -> str:
        """The runtime of the engines, with its version."""
        return f"{self._int8.runtime} {self._int8.runtime_version}"

    def fp32_latency_ratio(self) -> Optional[float]:
        """Return the median latency of FP32 relative to all-INT8; None if emulated."""
        return _latency_ratio(self._int8, self._fp32, self._images[0])

    def meets_goal(self, engine: Engine, float_layers: int) -> bool:
        """Measure an engine with a number of float32 layers; return True if its drop is within the goal."""
        ratio: Optional[float] = 1.0
        if engine is not self._int8 or engine.is_emulation:
            ratio = _latency_ratio(self._int8, engine, self._images[0])
        step = self.steps[float_layers] = self._measure(engine, float_layers, ratio)
        if console.is_terminal:
            latency = "" if ratio is None else f", latency {ratio:.2f} x all-INT8"
            console.print(f"{float_layers} of {self.layers} layers in float32: drop {step.drop:.4g}{latency}")
        return step.drop <= self._goal.max_drop + _ROUNDING

    def _measure(self, engine: Engine, float_layers: int, latency_ratio: Optional[float]) -> Step:
        maps = MapComparison()
        for expected, measured in zip(self._maps, _run_maps(engine, self._images)):
            maps.update(expected, measured)
        snr_db = maps.compute().snr_db
        if self._goal.labeled is None:
            drop = 0.0 if snr_db is None else 10 ** (-snr_db / 20)
        else:
            drop = self._auroc - self._mean_auroc(engine, f"INT8 with {float_layers} float32 layers")
        return Step(float_layers, drop, snr_db, latency_ratio)

    def _mean_auroc(self, engine: Engine, name: str) -> float:
        """Return the mean image AUROC of the labeled categories; 0 without labels."""
        if self._goal.labeled is None:
            return 0.0
        images = score_images((engine,), self._goal.labeled, f"Scoring {name}")
        scores = {image.sample: float(image.outputs[0].scores[0]) for image in images}
        categories = [sample.category for sample in scores]
        auroc = mean_image_auroc(categories, [sample.is_anomalous for sample in scores], [*scores.values()])
        assert auroc is not None  # each category has normal and defective images
        return auroc


def _run_maps(engine: Engine, images: Sequence[np.ndarray]) -> List[np.ndarray]:
    maps = [engine.run(image[None]).maps[0] for image in images]
    if not all(np.isfinite(anomaly_map).all() for anomaly_map in maps):
        raise EngineError("an anomaly map is NaN or infinite", fix=_REMEDY)
    return maps


def _latency_ratio(baseline: Engine, other: Engine, image: np.ndarray) -> Optional[float]:
    """Return the median ratio of the latencies at batch 1 over alternating rounds; None if emulated."""
    if baseline.is_emulation:
        return None
    rounds: Tuple[List[np.ndarray], List[np.ndarray]] = ([], [])
    for _ in range(_ROUNDS):
        for engine, durations_ns in zip((baseline, other), rounds):
            settle(engines=2)
            queries = time_queries(engine, [image[None]], QUERIES_BEFORE_ROUND + _QUERIES)
            durations_ns.append(np.array(queries[QUERIES_BEFORE_ROUND:]))
    return compare(baseline.sidecar.name, *rounds).latency_ratio
