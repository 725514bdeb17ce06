"""What is said of a board that engines were measured on from here."""

from __future__ import annotations

import dataclasses
import shlex
from typing import Iterator, List

from rich.table import Table

from adq_edge.benchmark.results import BenchmarkReport
from adq_edge.evaluation.evaluate import Evaluation
from adq_edge.hardware.doctor import Diagnosis
from adq_edge.remote.bench import BoardResult
from adq_edge.report.console.bench import bench_tables
from adq_edge.report.console.common import quality_table


def board_tables(result: BoardResult) -> List[Table]:
    """Return the tables that `eval` and `bench` would have printed on the board, as far as it came.

    Raises:
        ResultError: a result file is of another release of adq-edge.
        StorageError: a result file cannot be read.
    """
    tables = [quality_table(Evaluation.read(path)) for path in result.evaluations]
    reports = [BenchmarkReport.read(path) for path in result.benchmarks]
    return [*tables, *(bench_tables(_joined(reports)) if reports else [])]


def board_lines(result: BoardResult) -> Iterator[str]:
    """Yield what a board is, where its results lie, how to remove what stays there; not why it failed.

    Raises:
        ResultError: what the board's doctor wrote is of another release of adq-edge.
        StorageError: it cannot be read.
    """
    if result.diagnosis is not None:
        yield f"{result.host}: {_describe(Diagnosis.read(result.diagnosis))}"
    if result.found:
        yield f"{result.host}: picked up the run that an earlier command had left there"
    results = (*result.benchmarks, *result.evaluations)
    if results:
        what = "results" if result.problem is None else "results of the steps before it failed"
        yield f"{result.host}: {what} in {results[0].parent}"
    if result.problem is None:
        remove = f"ssh {shlex.quote(result.host)} rm -rf .cache/adq-edge"
        yield f"{result.host}: nothing runs there any more; adq-edge stays for the next time, or: {remove}"


def _joined(reports: List[BenchmarkReport]) -> BenchmarkReport:
    """Return a run's files as one report, the engine that the others were compared with first."""
    engines = sorted(
        (engine for report in reports for engine in report.engines),
        key=lambda one: one.comparison is not None,
    )
    return dataclasses.replace(reports[0], engines=tuple(engines))


def _describe(diagnosis: Diagnosis) -> str:
    jetson, environment = diagnosis.inventory.jetson, diagnosis.inventory.environment
    parts = [environment.board or environment.cpu]
    if jetson is not None and jetson.jetpack is not None:
        parts.append(f"JetPack {jetson.jetpack}")
    parts.append(f"Python {environment.python}")
    if diagnosis.next_step is not None:
        parts.append(f"doctor there says: {diagnosis.next_step}")
    return ", ".join(parts)
