"""The instrument: what `bench` adds to a query, the repeatability of its runs, and the time of `report`.

    python -m benchmarks.instrument ENGINE [--runs 3]

ENGINE is built by `adq-edge build`. Each run is a process of `adq-edge bench` with SingleStream alone, at
full length. The report covers 50 engines, each with an evaluation and a recording of a board; their figures
are made up. Writes benchmarks/published/instrument.json and .md.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List, Sequence

import numpy as np

from adq_edge.artifacts import workspace
from adq_edge.benchmark.records import SingleStream
from adq_edge.benchmark.results import BenchmarkReport
from adq_edge.hardware.environment import read_environment
from benchmarks.published import publish
from factories import results as make

_ENGINES, _RECORDED_SECONDS = 50, 150.0


def adq_edge(folder: Path, *arguments: str) -> float:
    """Run `adq-edge` as a process in a folder and return its time in seconds."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "adq_edge", *arguments], check=True, cwd=folder)
    return time.perf_counter() - started


def repeat(engine: Path, runs: int, folder: Path) -> List[BenchmarkReport]:
    """Run `bench` on an engine several times."""
    reports = []
    for number in range(runs):
        own = folder / f"run{number}"
        own.mkdir()
        adq_edge(own, "bench", str(engine.resolve()), "--scenario", "single-stream")
        (path,) = (own / workspace.RESULTS).glob("*.bench.json")
        reports.append(BenchmarkReport.read(path))
    return reports


def single_streams(reports: Sequence[BenchmarkReport]) -> List[SingleStream]:
    """Return the SingleStream results of the runs."""
    found = [report.engines[0].single_stream for report in reports]
    return [stream for stream in found if stream is not None]


def repetition(
    name: str, reports: Sequence[BenchmarkReport], streams: Sequence[SingleStream]
) -> List[List[str]]:
    """Return the rows of the runs without interference, which must agree, and of the others."""
    lines = []
    for quiet in (True, False):
        pairs = [pair for pair in zip(reports, streams) if pair[0].interference.is_quiet == quiet]
        medians = [stream.latency.p50_ms for _, stream in pairs]
        if medians:
            apart = f": spread {np.ptp(medians) / np.median(medians):.1%}" if len(medians) > 1 else ""
            what = f"p50 of {name}, {len(medians)} run(s) {'without' if quiet else 'with'} interference"
            measured = f"{', '.join(f'{value:.2f}' for value in medians)} ms{apart}"
            lines.append([what, measured, "3 %" if quiet else "-"])
    return lines


def report_figures(folder: Path) -> Dict[str, float]:
    """Write the result files of 50 engines and report them; return the time in s and size in MB by format."""
    for number in range(_ENGINES):
        precision = ("fp32", "int8")[number % 2]
        board = make.recording(_RECORDED_SECONDS)
        engine = make.engine(precision, model=f"model{number // 2:02}", runtime="tensorrt", board=board)
        make.write(folder / "in", make.bench_report([engine], make.BOARD, run=str(number)))
    figures: Dict[str, float] = {"files": len(list((folder / "in").iterdir()))}
    for form in ("html", "md", "csv"):
        page = folder / f"report.{form}"
        figures[f"{form}_seconds"] = adq_edge(folder, "report", "in", "--output", page.name)
        figures[f"{form}_mb"] = page.stat().st_size / 1e6
    return figures


def main() -> None:
    """Measure and publish the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("engine", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        reports = repeat(options.engine, options.runs, Path(name))
        page = report_figures(Path(name))
    streams = single_streams(reports)
    rows = [
        ["overhead of `bench` per query", f"{max(s.harness_us for s in streams):.2f} us", "20 us"],
        *repetition(reports[0].engines[0].name, reports, streams),
        [
            f"`report` of {page['files']:.0f} files, HTML",
            f"{page['html_seconds']:.1f} s, {page['html_mb']:.2f} MB",
            "5 s, 3 MB",
        ],
        *([f"the same as .{form}", f"{page[f'{form}_seconds']:.1f} s", "5 s"] for form in ("md", "csv")),
    ]
    runs: List[Dict[str, Any]] = [
        {
            "p50_ms": stream.latency.p50_ms,
            "harness_us": stream.harness_us,
            "queries": stream.latency.count,
            "reasons": list(report.interference.reasons),
        }
        for stream, report in zip(streams, reports)
    ]
    publish(
        "instrument",
        "Cost and repeatability of the measurement",
        ["quantity", "measured", "limit"],
        rows,
        {"runs": runs, "report": page},
        read_environment(),
    )


if __name__ == "__main__":
    main()
