"""Latency of INT8 and FP32 engines of one model, interleaved, with ONNX Runtime and OpenVINO.

    python -m benchmarks.latency --bundle bundles/stfpm-demo --images DIR [--quick]

Writes benchmarks/published/latency.json and .md.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from pathlib import Path
from typing import List

from adq_edge.benchmark.bench import bench
from adq_edge.benchmark.quotable import find_caveat
from adq_edge.benchmark.records import EngineBenchmark
from adq_edge.builders.build import build
from adq_edge.core.options import Precision
from benchmarks.published import publish

CONTENDERS = (
    (Precision.FP32, "onnxruntime"),
    (Precision.FP32, "openvino"),
    (Precision.INT8, "onnxruntime"),
    (Precision.INT8, "openvino"),
)


def row(engine: EngineBenchmark) -> List[str]:
    """Return the table row of an engine."""
    best = engine.best_offline
    assert engine.single_stream is not None
    assert engine.end_to_end is not None
    assert best is not None
    latency, stages = engine.single_stream.latency, engine.end_to_end
    return [
        f"{engine.precision}, {engine.runtime}",
        f"{latency.p50_ms:.2f}",
        f"{latency.p90_ms:.2f}",
        f"{latency.p99_ms:.2f}",
        "1" if engine.comparison is None else f"{engine.comparison.latency_ratio:.3f}",
        f"{best.images_per_second:.1f} ({best.batch} x {best.streams})",
        f"{engine.engine_mb:.2f}",
        f"{engine.memory.peak_rss_batch_1_mb:.0f}",
        f"{stages.decode.p50_ms:.1f}",
        f"{stages.total.p50_ms:.1f}",
        f"{stages.overhead_ms:.2f}",
    ]


def main() -> None:
    """Build the engines, time them in turn and publish the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", required=True)
    parser.add_argument("--images", required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for precision, runtime in CONTENDERS:
            path = Path(folder) / f"{precision.value}-{runtime}.onnx"
            build(options.bundle, path, precision=precision, runtime=runtime, calib_data=options.images)
            paths.append(path)
        report = bench(paths, threads=options.threads, quick=options.quick, output=Path(folder))
    caveat = find_caveat(report)
    quick = "" if caveat is None else f" ({caveat})"
    publish(
        "latency",
        f"SingleStream latency at batch 1, {options.threads} threads, end to end from a "
        f"{report.settings.image_pixels[1]}x{report.settings.image_pixels[0]} JPEG{quick}",
        [
            "engine",
            "p50 ms",
            "p90 ms",
            "p99 ms",
            "ratio to the first",
            "offline images/s (batch x streams)",
            "engine MB",
            "peak RSS MB",
            "decode ms",
            "end to end ms",
            "overhead ms",
        ],
        [row(engine) for engine in report.engines],
        {"engines": [{**dataclasses.asdict(engine), "engine": engine.name} for engine in report.engines]},
        report.environment,
    )


if __name__ == "__main__":
    main()
