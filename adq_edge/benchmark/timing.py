"""The timed loops: an engine, the images it is fed, and the clock beside it."""

from __future__ import annotations

import contextlib
import itertools
from pathlib import Path
from time import perf_counter_ns
from typing import Dict, List, Sequence

import numpy as np

from adq_edge.artifacts.sidecar import Sidecar
from adq_edge.benchmark.protocol import Batches
from adq_edge.core.imaging import decode_image, resize_image, resize_map
from adq_edge.runtimes.base import Engine, Output

_HARNESS_QUERIES = 2000


def time_queries(engine: Engine, images: Sequence[np.ndarray], count: int) -> List[int]:
    """Time bare queries.

    Args:
        engine: what is timed.
        images: uint8 `[1, H, W, 3]` each, in turns.
        count: how many queries.

    Returns:
        Durations in ns.
    """
    durations = []
    for i in range(count):
        image = images[i % len(images)]
        start = perf_counter_ns()
        engine.run(image)
        durations.append(perf_counter_ns() - start)
    return durations


def harness_us(sidecar: Sidecar, images: Sequence[np.ndarray]) -> float:
    """Return what `time_queries` measures on an engine that does nothing: median in microseconds."""
    return float(np.median(time_queries(_NoOpEngine(sidecar), images, _HARNESS_QUERIES))) / 1e3


def time_image(engine: Engine, encoded: bytes) -> Dict[str, int]:
    """Time one image from encoded bytes to a map of the input's size, stage by stage.

    Returns:
        Durations in ns by the names of `Images`' fields; the copies only where there are any.
    """
    size = engine.sidecar.image_size
    marks = [perf_counter_ns()]
    image = decode_image(encoded)
    marks.append(perf_counter_ns())
    resized = resize_image(image, size)
    marks.append(perf_counter_ns())
    output = engine.run(resized[None])
    marks.append(perf_counter_ns())
    resize_map(output.maps[0], size)
    marks.append(perf_counter_ns())
    stages = ("decode_ns", "preprocess_ns", "inference_ns", "postprocess_ns")
    durations = dict(zip(stages, (end - start for start, end in zip(marks, marks[1:]))))
    on_device = engine.stages()
    if on_device is not None:
        to, back = round(on_device.host_to_device * 1e6), round(on_device.device_to_host * 1e6)
        durations.update(host_to_device_ns=to, device_to_host_ns=back)
        durations["inference_ns"] -= to + back
    return durations


def time_batches(engine: Engine, images: np.ndarray, streams: int, seconds: float) -> Batches:
    """Time calls of one batch size for `seconds` or longer, after an untimed one per stream.

    Whole rounds of one call per stream count, from the end of a round to the end of another, with calls on
    all streams before, throughout and after: no time counts in which a stream has nothing left to do.

    Args:
        engine: what is timed.
        images: uint8 `[N, H, W, 3]`, the batch of every call.
        streams: calls at the same time.
        seconds: the least duration.
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
    """Passes through everything that a query passes through, and computes nothing."""

    runtime, runtime_version = "none", ""

    def __init__(self, sidecar: Sidecar) -> None:
        super().__init__(Path(sidecar.name), sidecar)
        self._output = Output(np.zeros((1, *sidecar.map_size), np.float32), np.zeros(1, np.float32))

    def _run(self, images: np.ndarray) -> Output:
        return self._output

    def operators(self) -> Dict[str, int]:
        return {}

    def close(self) -> None:
        return None
