"""The tables and lines about a board on which `bench --host` measured."""

from __future__ import annotations

import dataclasses
import shlex
from typing import Any, Dict, Iterator, List, Optional

from adq_edge.benchmark.results import BenchmarkReport
from adq_edge.evaluation.evaluate import Evaluation
from adq_edge.hardware.doctor import Diagnosis
from adq_edge.hardware.jetson import Jetson
from adq_edge.remote.bench import BoardResult
from adq_edge.report.table import Table
from adq_edge.report.tables.bench import bench_tables
from adq_edge.report.tables.quality import evaluation_table


def board_tables(result: BoardResult) -> List[Table]:
    """Return the tables of `eval` and `bench` for the steps that the board completed.

    Raises:
        ResultError: a result file is of another release of adq-edge.
        StorageError: a result file cannot be read.
    """
    tables = [evaluation_table(Evaluation.read(path)) for path in result.evaluations]
    reports = [BenchmarkReport.read(path) for path in result.benchmarks]
    return [*tables, *(bench_tables(_merged(reports)) if reports else [])]


def board_lines(result: BoardResult) -> Iterator[str]:
    """Yield lines on a board, its result files, and how to remove adq-edge from it; not why it failed.

    Raises:
        ResultError: the board's diagnosis is of another release of adq-edge.
        StorageError: the diagnosis cannot be read.
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


def board_jetson(result: BoardResult) -> Optional[Jetson]:
    """Return the Jetson that a board's diagnosis describes; None for another board or without a diagnosis.

    Raises:
        ResultError: the diagnosis is of another release of adq-edge.
        StorageError: the diagnosis cannot be read.
    """
    return None if result.diagnosis is None else Diagnosis.read(result.diagnosis).inventory.jetson


def board_document(result: BoardResult) -> Dict[str, Any]:
    """Return a board's result files as one JSON object.

    Raises:
        ResultError: a result file is of another release of adq-edge.
        StorageError: a result file cannot be read.
    """
    return {
        "host": result.host,
        "problem": None if result.problem is None else str(result.problem),
        "eval": [Evaluation.read(path).document() for path in result.evaluations],
        "bench": [BenchmarkReport.read(path).document() for path in result.benchmarks],
    }


def _merged(reports: List[BenchmarkReport]) -> BenchmarkReport:
    """Return a run's files as one report; the baseline of the others is first."""
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
        parts.append(f"next step, by doctor: {diagnosis.next_step}")
    return ", ".join(parts)
