"""Result files as the verbs write them, with invented numbers, for tests of reports."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Optional, Sequence, Tuple

import numpy as np

from adq_edge.artifacts.bundle import FileReference
from adq_edge.benchmark.records import (
    Comparison,
    EndToEnd,
    EngineBenchmark,
    Interval,
    Latency,
    Memory,
    OfflineEnd,
    SingleStream,
    Throughput,
)
from adq_edge.benchmark.results import BenchmarkReport, Interference, Settings
from adq_edge.core.options import ThresholdRule
from adq_edge.core.records import write_json
from adq_edge.evaluation.decision_quality import (
    DecisionQuality,
    ProductQuality,
    RecognitionCount,
    RecognitionQuality,
)
from adq_edge.evaluation.evaluate import Evaluation, ImageScore
from adq_edge.evaluation.scoring import CategoryQuality
from adq_edge.hardware.board_state import BoardState
from adq_edge.hardware.environment import Environment
from adq_edge.hardware.power import PowerMode
from adq_edge.hardware.telemetry.recording import Energy, Recording, Series
from adq_edge.metrics.cost import CostPoint
from adq_edge.metrics.intervals import count_rate
from adq_edge.metrics.operating_point import OperatingPoint

PC = Environment(
    cpu="AMD EPYC 9654 96-Core Processor",
    architecture="x86_64",
    board=None,
    instruction_sets=("avx2", "avx512f", "avx512_vnni"),
    logical_cores=2,
    physical_cores=1,
    cpu_quota=None,
    memory_mb=16_000.0,
    os="Debian GNU/Linux 12 (bookworm)",
    kernel="Linux 6.1.0",
    python="3.11.2",
    packages={"numpy": "2.4.0", "onnxruntime": "1.32.0"},
    host="bench-pc",
)
BOARD = dataclasses.replace(
    PC,
    cpu="NVIDIA Carmel",
    architecture="aarch64",
    board="NVIDIA Jetson Xavier NX Developer Kit",
    instruction_sets=("asimd", "asimdhp"),
    logical_cores=6,
    physical_cores=6,
    memory_mb=8_000.0,
    os="Ubuntu 20.04.6 LTS",
    kernel="Linux 5.10.120-tegra",
    python="3.8.10",
    packages={"numpy": "1.23.5", "tensorrt": "8.5.2"},
    power_mode="MODE_20W_6CORE",
    host="line-3",
    l4t="35.4.1",
    jetpack="5.1.2",
    cuda="11.4",
)
STATE = BoardState(PowerMode(8, "MODE_20W_6CORE", 6, 1109.25, 1866.0), True, 1109.25, None, 38.5)
MEDIAN_MS = {"fp32": 40.0, "fp16": 25.0, "int8": 13.0}
ENGINE_MB = {"fp32": 45.2, "fp16": 22.7, "int8": 11.5}
AUROC = {"fp32": 0.9871, "fp16": 0.9870, "int8": 0.9858}


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def latency(median_ms: float, seed: int = 0, count: int = 1500) -> Latency:
    """Draw latencies around a median in ms, with a few slow ones."""
    generator = np.random.default_rng(seed)
    durations = median_ms * (0.95 + generator.gamma(2.0, 0.025, count))
    durations[: count // 100] *= generator.uniform(1.2, 2.0, count // 100)
    p50, p90, p95, p99 = (float(value) for value in np.percentile(durations, (50, 90, 95, 99)))
    return Latency(
        count=count,
        mean_ms=float(durations.mean()),
        p50_ms=p50,
        p90_ms=p90,
        p95_ms=p95,
        p99_ms=p99,
        min_ms=float(durations.min()),
        max_ms=float(durations.max()),
        p50_interval_ms=Interval(0.99 * p50, 1.01 * p50),
        p90_interval_ms=Interval(0.98 * p90, 1.02 * p90),
        p99_interval_ms=None,
        quantiles_ms=tuple(float(value) for value in np.percentile(durations, np.arange(0, 100.5, 0.5))),
    )


def recording(seconds: float = 60.0, throttled: bool = False, watts: float = 9.0) -> Recording:
    generator = np.random.default_rng(int(watts * 10))
    times = np.arange(0, seconds, 0.1)

    def series(name: str, unit: str, level: float, rise: float, noise: float) -> Series:
        values = level + rise * (1 - np.exp(-times / 15)) + generator.normal(0, noise, len(times))
        readings = [round(float(value), 3) for value in values]
        return Series(name, unit, tuple(None if i % 97 == 5 else value for i, value in enumerate(readings)))

    gpu = np.where(times > 40, 803.25, 1109.25) if throttled else np.full(len(times), 1109.25)
    return Recording(
        source="sysfs",
        hertz=10.0,
        cost_percent=0.8,
        seconds=tuple(round(float(time), 2) for time in times),
        power=(
            series("VDD_IN", "W", watts, 0.8, 0.15),
            series("VDD_CPU_GPU_CV", "W", 0.6 * watts, 0.5, 0.1),
            series("VDD_SOC", "W", 1.4, 0.1, 0.03),
        ),
        temperatures=tuple(
            series(name, "degC", 38 + number, 14 - number, 0.1)
            for number, name in enumerate(
                ("GPU-therm", "CPU-therm", "AUX-therm", "AO-therm", "PMIC", "iwlwifi")
            )
        ),
        clocks=(
            Series("gpu", "MHz", tuple(float(value) for value in gpu)),
            Series("emc", "MHz", tuple(1600.0 for _ in times)),
            Series("cpu", "MHz", tuple(1420.0 for _ in times)),
        ),
        throttled=throttled,
        throttle_reasons=("GPU at 803 of 1109 MHz",) if throttled else (),
        energy=Energy("VDD_IN", 3.2, watts + 0.7, (watts + 0.7) / 60, (watts - 2.5) / 60),
    )


def engine(
    precision: str = "fp32",
    *,
    name: Optional[str] = None,
    model: str = "stfpm-parts",
    scale: float = 1.0,
    runtime: str = "onnxruntime",
    board: Optional[Recording] = None,
    baseline: Optional[str] = None,
    count: int = 1500,
    steady: bool = True,
    quality: str = "",
) -> EngineBenchmark:
    """Make the measurements of an engine.

    Args:
        precision: its number format.
        name: its name; by default the model's name and the precision.
        model: the model's name.
        scale: factor on all latencies.
        runtime: the runtime's name.
        board: recording of the board.
        baseline: name of the engine that it is compared with.
        count: number of timed queries.
        steady: whether the warm-up reached a steady state.
        quality: text that makes the hashes of equally named engines differ.
    """
    name = f"{model}-{precision}" if name is None else name
    median_ms = MEDIAN_MS[precision] * scale
    seed = int(digest(name)[:6], 16)
    query = latency(median_ms, seed, count)
    gpu = runtime == "tensorrt"
    ratio = MEDIAN_MS[precision] / MEDIAN_MS["fp32"]
    offline = [
        Throughput(batch, streams, 1000 / median_ms * batch**0.2 * streams**0.3, 400, 12.0)
        for batch, streams in ((1, 1), (2, 1), (4, 1), (8, 1), (8, 2), (8, 4))
    ]
    return EngineBenchmark(
        name=name,
        engine=FileReference(f"engines/{name}.onnx", digest(name + quality)),
        model_sha256=digest(model),
        precision=precision,
        arch="stfpm",
        image_size=(256, 256),
        engine_mb=ENGINE_MB[precision],
        runtime=runtime,
        runtime_version="8.5.2" if gpu else "1.32.0",
        load_ms=310.0,
        single_stream=SingleStream(
            latency=query,
            timed_seconds=max(61.0, count * median_ms / 1000) if count >= 1024 else 2.0,
            rounds=64,
            round_p50_ms=tuple(median_ms * (1 + 0.002 * (i % 5)) for i in range(64)),
            warm_up_queries=40,
            warm_up_seconds=2.1,
            steady=steady,
            warm_up_queries_per_round=2,
            harness_us=0.4,
        ),
        end_to_end=EndToEnd(
            total=latency(median_ms + 9.3, seed + 1),
            decode=latency(6.2, seed + 2),
            preprocess=latency(1.9, seed + 3),
            host_to_device=latency(0.4, seed + 4) if gpu else None,
            inference=latency(median_ms, seed + 5),
            device_to_host=latency(0.1, seed + 6) if gpu else None,
            postprocess=latency(0.7, seed + 7),
            overhead_ms=0.2,
            overhead_percent=0.5,
        ),
        offline=tuple(offline),
        memory=Memory(
            rss_before_load_mb=72.0,
            model_mb=2.2 * ENGINE_MB[precision],
            arena_mb=64.0 * ratio,
            peak_rss_batch_1_mb=72 + 2.2 * ENGINE_MB[precision] + 64 * ratio,
            peak_rss_mb=72 + 2.2 * ENGINE_MB[precision] + 164 * ratio,
            system_rise_mb=240.0,
            device_mb=180.0 if gpu else None,
            swap_mb=0.0,
            system_rise_offline_mb=260.0,
        ),
        comparison=None
        if baseline is None
        else Comparison(
            baseline, ratio, Interval(0.98 * ratio, 1.02 * ratio), 0.95 * ratio, 1.05 * ratio, 64
        ),
        recording=board,
        offline_end=OfflineEnd.LARGEST_BATCH,
        build_seconds=412.5 if gpu else None,
        layers={"INT8": 31, "FP32": 12} if gpu else {"QLinearConv": 31, "Conv": 2},
        cuda_graph=False if gpu else None,
    )


def bench_report(
    engines: Sequence[EngineBenchmark],
    environment: Environment = PC,
    *,
    device: str = "cpu",
    run: str = "run",
    quick: bool = False,
    noise: Tuple[str, ...] = (),
) -> BenchmarkReport:
    return BenchmarkReport(
        run=run,
        created="2026-11-20T10:00:00+00:00",
        quick=quick,
        settings=Settings(device, None, 1024, 60.0, 10.0, "synthetic", (1024, 1024), 0.9),
        environment=environment,
        engines=tuple(engines),
        interference=Interference(not noise, noise, 0.4, 0.0, 0.8, "schedutil"),
        board_before=None if environment.board is None else STATE,
        board_after=None if environment.board is None else dataclasses.replace(STATE, hottest_degc=52.25),
    )


def decisions() -> DecisionQuality:
    """Make the quality of the decisions of two products."""
    errors = OperatingPoint(count_rate(1, 18), count_rate(3, 12))
    curve = (CostPoint(2.5, 0, 5), CostPoint(1.5, 2, 1))
    measures = (0.91, 0.93, 0.52, 0.44)
    products = tuple(
        ProductQuality(
            name, name, 30, 12, 0, 0.99, 0.98, 0.93, 2.1, ThresholdRule.FALSE_REJECTS,
            "at most 1 % of good parts rejected, from 240 good images", False, 0.01, errors, *measures, curve,
        )
        for name in ("screw", "tile")
    )  # fmt: skip
    total = OperatingPoint(count_rate(2, 36), count_rate(6, 24))
    counts = (
        RecognitionCount("screw", "screw", 18, 12, 0, 1),
        RecognitionCount("tile", "tile", 18, 12, 0, 0),
    )
    none = count_rate(0, 0)
    recognition = RecognitionQuality(count_rate(60, 60), count_rate(0, 36), count_rate(1, 24), none, counts)
    areas = (0.99, 0.98, 0.93)
    return DecisionQuality(products, *areas, *measures, 1 / 18, 0.25, total, (), recognition, ("a note",))


def evaluation(
    item: EngineBenchmark, environment: Environment = PC, auroc: Optional[float] = None
) -> Evaluation:
    """Make the evaluation of an engine on two categories, with the same images for all engines."""
    value = AUROC[item.precision] if auroc is None else auroc
    categories = tuple(
        CategoryQuality(name, 30, 12, value + shift, 0.97, 0.91, 0.95, 0.42)
        for name, shift in (("screw", 0.005), ("tile", -0.005))
    )
    scores = tuple(
        ImageScore(f"{name}/test/{i:03}.png", name, "good" if i < 18 else "scratch", 0.3 + i / 100)
        for name in ("screw", "tile")
        for i in range(30)
    )
    return Evaluation(
        engine=item.engine,
        model_sha256=item.model_sha256,
        precision=item.precision,
        runtime=f"{item.runtime} {item.runtime_version}",
        data="/data/parts",
        categories=categories,
        image_auroc=value,
        pixel_auroc=0.97,
        aupro=0.91,
        threshold=0.42,
        f1=0.95,
        scores=scores,
        environment=environment,
        decisions=decisions(),
    )


def write(folder: Path, report: BenchmarkReport, prefix: str = "", evaluated: bool = True) -> None:
    """Write the result files of `bench`, one for each engine, and of `eval` if `evaluated`."""
    for item in report.engines:
        dataclasses.replace(report, engines=(item,)).write(folder / f"{prefix}{item.name}.bench.json")
        if evaluated:
            record = dataclasses.asdict(evaluation(item, report.environment))
            write_json(folder / f"{prefix}{item.name}.eval.json", "adq-edge/eval", 1, record)


def write_customer(folder: Path) -> Path:
    """Write a typical set of results: a PC and a board, three precisions, a throttled and a quick run."""
    cpu = [
        engine(precision, baseline=None if precision == "fp32" else "stfpm-parts-fp32")
        for precision in MEDIAN_MS
    ]
    write(folder, bench_report([cpu[0], cpu[2]]), "pc-")
    board = [
        engine(
            precision,
            scale=0.4,
            runtime="tensorrt",
            quality="board",
            board=recording(throttled=precision == "fp32", watts=MEDIAN_MS[precision] / 5 + 5),
            baseline=None if precision == "fp32" else "stfpm-parts-fp32",
        )
        for precision in MEDIAN_MS
    ]
    write(folder, bench_report(board, BOARD, device="jetson", run="board"), "board-")
    quick = engine("int8", name="rd-parts-int8", model="rd-parts", scale=7, count=60, steady=False)
    write(
        folder,
        bench_report([quick], run="quick", quick=True, noise=("other processes took 34 % of the CPU",)),
        "quick-",
    )
    return folder
