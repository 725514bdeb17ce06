"""A run of `bench` on a made-up Xavier NX whose owner has secrets, and what a submission is made from."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, List

from adq_edge.benchmark.results import BenchmarkReport
from adq_edge.hardware.jetson import Jetson
from adq_edge.report.load import Collection
from factories import results as make
from factories.comparison import comparison

NX = Jetson(
    model="NVIDIA Jetson Xavier NX Developer Kit",
    family="Jetson Xavier NX",
    module="p3668-0001",
    soc="tegra194",
    l4t="35.4.1",
    jetpack="5.1.2",
    compute_capability="7.2",
    dla_cores=2,
)


def engines() -> List[Any]:
    fp32 = make.engine("fp32", name="acme-lid-fp32", runtime="tensorrt", scale=0.4, board=make.recording(2.0))
    int8 = make.engine(
        "int8",
        name="acme-lid-int8",
        runtime="tensorrt",
        scale=0.4,
        board=make.recording(2.0, throttled=True),
        baseline="acme-lid-fp32",
    )
    return [fp32, dataclasses.replace(int8, offline_failure="at batch 8, 1 stream: /home/anna: no memory")]


@functools.lru_cache(maxsize=None)
def run_on_board() -> BenchmarkReport:
    return make.bench_report(engines(), make.BOARD, device="jetson", run="9b1deb4d-3b7d")


def collect(run: BenchmarkReport, evaluated: bool = True) -> Collection:
    """Return what `write_submission` reads of a run."""
    one = [dataclasses.replace(run, engines=(engine,)) for engine in run.engines]
    evaluations = (
        [make.evaluation(engine, run.environment, 0.9858) for engine in run.engines] if evaluated else []
    )
    compared = comparison()
    sides = [
        dataclasses.replace(side, engine=engine.engine, precision=engine.precision)
        for side, engine in zip((compared.engine_a, compared.engine_b), run.engines)
    ]
    compared = dataclasses.replace(
        compared, engine_a=sides[0], engine_b=sides[1], environment=run.environment
    )
    return Collection(tuple(one), tuple(evaluations), (compared,) if evaluated else (), (), (), ())
