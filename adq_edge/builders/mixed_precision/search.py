"""Search for a precision plan: the fewest layers in float32 that keep the drop within a limit."""

from __future__ import annotations

import dataclasses
import math
from typing import Callable, List, Optional, Sequence

import numpy as np

from adq_edge.artifacts.precision_plan import Plan, Search
from adq_edge.builders.base import BuildInputs, EngineBuilder
from adq_edge.builders.mixed_precision.goal import Goal
from adq_edge.builders.mixed_precision.trials import Trials
from adq_edge.calibration.calibrated_model import CalibratedModel
from adq_edge.core.console import progress_bar
from adq_edge.core.errors import BuildError
from adq_edge.core.options import Device, Precision, Target
from adq_edge.core.runtimes import OPENVINO
from adq_edge.hardware.bfloat16 import why_no_bfloat16
from adq_edge.hardware.environment import read_environment
from adq_edge.quantization.placement import integer_layers
from adq_edge.quantization.sensitivity import SensitivityAnalysis


def find_plan(
    goal: Goal,
    inputs: BuildInputs,
    calibrated: CalibratedModel,
    builder: EngineBuilder,
    *,
    threads: Optional[int] = None,
) -> Plan:
    """Search for the fewest float32 layers, worst first, that keep the drop within the goal.

    The worst layer changes the anomaly map most when it alone is quantized. Engines with the worst 0, 1, 2, 4
    ... layers in float32 are measured until one meets the goal, then a binary search follows. It may miss a
    smaller plan if the drop does not fall steadily with the number of float32 layers.

    Args:
        goal: the goal.
        inputs: the inputs of the all-INT8 engine.
        calibrated: its calibrated model.
        builder: the builder of the engines.
        threads: CPU threads of the search for the worst layers; all by default.

    Raises:
        BuildError: no plan meets the goal, and `keep_nearest` is False.
        DataError: an image cannot be read.
        EngineError: a map or score is not finite.
    """
    images = list(goal.images.images(inputs.bundle.manifest.image_size))
    region = calibrated.float_model.region
    layers = [layer.node.name for layer in integer_layers(region, builder.target)]
    float_inputs = dataclasses.replace(inputs, precision=Precision.FP32)
    with builder.open_candidate(float_inputs) as fp32, builder.open_candidate(inputs) as int8:
        trials = Trials(goal, images, fp32, int8, len(layers))
        order: List[str] = []
        fewest: Optional[int] = 0
        if not trials.meets_goal(int8, 0):
            order = _worst_first(layers, calibrated, builder.target, images, threads)

            def meets_goal(count: int) -> bool:
                mixed = dataclasses.replace(inputs, float_layers=tuple(order[:count]))
                with builder.open_candidate(mixed) as engine:
                    return trials.meets_goal(engine, count)

            fewest = smallest_prefix(meets_goal, len(order))
        search = _describe_search(goal, calibrated, trials, holds=fewest is not None)
    count = _choose_nearest(goal, search, builder) if fewest is None else fewest
    return Plan(inputs.bundle.manifest.model_sha256, builder.target, tuple(order[:count]), search)


def smallest_prefix(is_enough: Callable[[int], bool], total: int) -> Optional[int]:
    """Return the smallest number from 1 to `total` that is enough, by binary search; None if none is.

    If `is_enough` is not monotonic, it is true for the result and false for the number before it.
    """
    if total == 0:
        return None
    low, high = 0, 1
    while not is_enough(high):
        if high == total:
            return None
        low, high = high, min(2 * high, total)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high


def _worst_first(
    layers: Sequence[str],
    calibrated: CalibratedModel,
    target: Target,
    images: Sequence[np.ndarray],
    threads: Optional[int],
) -> List[str]:
    """Return the layers by the map error when each alone is quantized, largest first."""
    analysis = SensitivityAnalysis(
        calibrated.float_model,
        calibrated.ranges.tensors,
        target,
        images,
        rounding=calibrated.rounded_weights,
        threads=threads,
    )
    with progress_bar("Finding the worst layers", len(layers), "layers") as advance:
        sensitivities = analysis.layers(layers, advance)
    sensitivities.sort(
        key=lambda sensitivity: math.inf if sensitivity.map_snr_db is None else sensitivity.map_snr_db
    )
    return [sensitivity.layer for sensitivity in sensitivities]


def _describe_search(goal: Goal, calibrated: CalibratedModel, trials: Trials, holds: bool) -> Search:
    return Search(
        max_drop=goal.max_drop,
        measure=goal.measure,
        holds=holds,
        data=str(goal.folder.resolve()),
        images=trials.images,
        ranges=calibrated.record.ranges,
        runtime=trials.runtime,
        cpu=read_environment().cpu,
        layers=trials.layers,
        fp32_latency_ratio=trials.fp32_latency_ratio(),
        steps=tuple(trials.steps[count] for count in sorted(trials.steps)),
    )


def _choose_nearest(goal: Goal, search: Search, builder: EngineBuilder) -> int:
    """Return the number of float32 layers with the smallest drop if the goal accepts it."""
    best = min(search.steps, key=lambda step: (step.drop, step.float_layers))
    if goal.keep_nearest:
        return best.float_layers
    fix = "Give a larger --max-drop, or add --keep-nearest to build that engine"
    fix += f". Without INT8: --{'fp32' if builder.device is Device.CPU else 'fp16'}"
    if builder.device is Device.CPU and why_no_bfloat16() is None:
        fix += f", or --bf16 --runtime {OPENVINO.name}, faster than float32, with less loss than INT8"
    raise BuildError(
        f"no plan meets --max-drop {goal.max_drop:g} ({goal.measure.value}): the smallest drop is "
        f"{best.drop:.4g} with {best.float_layers} of {search.layers} layers in float32",
        fix=fix,
    )
