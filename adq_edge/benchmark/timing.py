"""The timed loops around an engine."""

from __future__ import annotations

import contextlib
import itertools
from pathlib import Path
from time import perf_counter_ns
from typing import Dict, List, Sequence

import numpy as np

from adq_edge.artifacts.sidecar import Sidecar
from adq_edge.benchmark.measurements import Batches
from adq_edge.core.images.imaging import decode_image, resize_image, resize_map
from adq_edge.runtimes.base import Engine, Output

_HARNESS_QUERIES = 2000


def time_queries(engine: Engine, images: Sequence[np.ndarray], count: int) -> List[int]:
    """Time bare queries; return their durations in ns.

    Args:
        images: uint8 `[1, H, W, 3]` each, used in turns.
    """
    durations = []
    for i in range(count):
        image = images[i % len(images)]
        start = perf_counter_ns()
        engine.run(image)
        durations.append(perf_counter_ns() - start)
    return durations


def harness_us(sidecar: Sidecar, images: Sequence[np.ndarray]) -> float:
    """Return the overhead of `time_queries` in microseconds: its median without any computation."""
    return float(np.median(time_queries(_NoOpEngine(sidecar), images, _HARNESS_QUERIES))) / 1e3


def time_image(engine: Engine, encoded: bytes) -> Dict[str, int]:
    """Time the stages from an encoded image to an anomaly map of the input's size.

    Returns:
        Durations in ns by the fields of `ImageDurations`; the copies only if the engine reports them.
    """
    size = engine.sidecar.image_size
    marks = [perf_counter_ns()]
    image = decode_image(encoded)
    marks.append(perf_counter_ns())
    resized = resize_image(image, size)
    marks.append(perf_counter_ns())
    engine.time_stages = True
    try:
        output = engine.run(resized[None])
    finally:
        engine.time_stages = False
    marks.append(perf_counter_ns())
    resize_map(output.maps[0], size)
    marks.append(perf_counter_ns())
    stages = ("decode", "preprocess", "inference", "postprocess")
    durations = dict(zip(stages, (end - start for start, end in zip(marks, marks[1:]))))
    copies = engine.stages()
    if copies is not None:
        to_device, to_host = round(copies.host_to_device * 1e6), round(copies.device_to_host * 1e6)
        durations.update(host_to_device=to_device, device_to_host=to_host)
        durations["inference"] -= to_device + to_host
    return durations


def time_batches(engine: Engine, images: np.ndarray, streams: int, seconds: float) -> Batches:
    """Time calls of one batch size for `seconds` or longer, after one untimed call per stream.

    The time runs from the end of one call per stream to the end of a later one. All streams have calls
    before, throughout and after it, so that no stream is idle while the time counts.

    Args:
        images: uint8 `[N, H, W, 3]`, the batch of every call.
        streams: number of simultaneous calls.
        seconds: minimum duration.
    """
    with contextlib.closing(engine.run_many(itertools.repeat(images), streams)) as outputs:

        def end_of_round() -> int:
            for _ in range(streams):
                next(outputs)
            return perf_counter_ns()

        start = now = end_of_round()
        rounds = 0
        while rounds == 0 or now < start + seconds * 1e9:
            now, rounds = end_of_round(), rounds + 1
    return Batches(rounds * streams * len(images), now - start)


class _NoOpEngine(Engine):
    """An engine that checks the input of a query and computes nothing."""

    runtime, runtime_version = "none", ""

    def __init__(self, sidecar: Sidecar) -> None:
        super().__init__(Path(sidecar.name), sidecar)
        self._output = Output.of(
            {name: np.zeros((1, *shape), np.float32) for name, shape in self.outputs.items()}
        )

    def _run(self, images: np.ndarray) -> Output:
        return self._output

    def operators(self) -> Dict[str, int]:
        return {}

    def close(self) -> None:
        return None
