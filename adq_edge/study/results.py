"""The result files of a study: one for each cell, and one for the whole study."""

from __future__ import annotations

import dataclasses
from typing import Optional, Tuple

from adq_edge.artifacts.bundle import FileReference
from adq_edge.benchmark.quotable import find_caveat, find_flags
from adq_edge.benchmark.results import BenchmarkReport
from adq_edge.core.errors import ResultError
from adq_edge.core.records import Record, record
from adq_edge.core.text import number_of
from adq_edge.evaluation.scoring import CategoryQuality
from adq_edge.hardware.environment import Environment
from adq_edge.study.config import StudyConfig
from adq_edge.study.data import StudyData
from adq_edge.study.matrix import Cell

_REMEDY = "Run it again: adq-edge study"


@dataclasses.dataclass(frozen=True)
class Quality:
    """Areas under curves, 0 to 1: each category, measured with its own engine, and the means.

    Pixel AUROC and AUPRO are means over the categories with masks; None without masks.
    """

    image_auroc: Optional[float]
    pixel_auroc: Optional[float]
    aupro: Optional[float]
    categories: Tuple[CategoryQuality, ...]


@dataclasses.dataclass(frozen=True)
class Speed:
    """SingleStream results of the first engine at batch 1; only the engine call is timed.

    Attributes:
        mean_ms: mean over all queries in ms, for comparison with the published means.
        ratio: its median latency divided by that of the FP32 engine, timed in turns in the same run; None
            for the FP32 engine itself.
        images_per_second: highest throughput of Offline; None if it was not measured.
        engine_mb: size of its file in MB (10^6 bytes).
        peak_rss_mb: peak memory of its process at batch 1 in MB (10^6 bytes).
        joules_per_image: energy of the whole board per image, idle power included; None without sensors.
        caveat: why the figures are not to be quoted; None if they may be quoted.
        flags: the reasons in a word or two each; empty in files of early releases.
    """

    mean_ms: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    ratio: Optional[float]
    images_per_second: Optional[float]
    engine_mb: float
    peak_rss_mb: float
    joules_per_image: Optional[float]
    caveat: Optional[str]
    flags: Tuple[str, ...] = ()


@record("adq-edge/study-cell", version=1, error=ResultError, fix=_REMEDY)
@dataclasses.dataclass(frozen=True)
class CellResult(Record):
    """One cell's figures.

    Attributes:
        key: hash of the cell's configuration and its input files.
        engines: the engine files below the study's folder; the first was timed.
        all_engines_mb: their total size in MB (10^6 bytes).
        quality: quality of all engines, each on its own categories.
        speed: speed of the first engine.
        results: the result files of `eval` and `bench` below the study's folder.
        created: time of creation, UTC, ISO 8601.
        seconds: duration in s, including models that other cells share.
    """

    key: str
    cell: Cell
    engines: Tuple[FileReference, ...]
    all_engines_mb: float
    quality: Quality
    speed: Speed
    results: Tuple[FileReference, ...]
    runtime: str
    environment: Environment
    created: str
    seconds: float

    @property
    def machine(self) -> str:
        """Device, machine, runtime and its version."""
        found = self.environment
        name = found.board or f"{found.cpu}, {number_of(found.logical_cores, 'logical core')}"
        return f"{self.cell.device.value} {name}, {self.runtime}"


@dataclasses.dataclass(frozen=True)
class CellState:
    """A cell of the matrix with its result, or why it has none.

    Attributes:
        reason: why it was not run, or why it failed; None with a result or before it runs.
        failed: True if it was tried and failed.
    """

    cell: Cell
    result: Optional[CellResult] = None
    reason: Optional[str] = None
    failed: bool = False


@record("adq-edge/study", version=1, error=ResultError, fix=_REMEDY)
@dataclasses.dataclass(frozen=True)
class StudyResult(Record):
    """A study, finished or not; `created` is in UTC, ISO 8601."""

    created: str
    config: StudyConfig
    data: StudyData
    cells: Tuple[CellState, ...]

    @property
    def results(self) -> Tuple[CellResult, ...]:
        """The results of the finished cells."""
        return tuple(state.result for state in self.cells if state.result is not None)

    @property
    def machines(self) -> Tuple[str, ...]:
        """Each device, machine and runtime once."""
        return tuple(dict.fromkeys(result.machine for result in self.results))

    @property
    def failures(self) -> Tuple[CellState, ...]:
        """The cells that failed."""
        return tuple(state for state in self.cells if state.failed)


def speed_of(report: BenchmarkReport) -> Speed:
    """Return the speed of a run's last engine.

    Raises:
        ResultError: the run has no SingleStream.
    """
    engine = report.engines[-1]
    if engine.single_stream is None:
        raise ResultError("has no SingleStream figures", where=engine.name, fix=_REMEDY)
    latency, best, recording = engine.single_stream.latency, engine.best_offline, engine.recording
    energy = None if recording is None else recording.energy
    return Speed(
        mean_ms=latency.mean_ms,
        p50_ms=latency.p50_ms,
        p90_ms=latency.p90_ms,
        p99_ms=latency.p99_ms,
        ratio=None if engine.comparison is None else engine.comparison.latency_ratio,
        images_per_second=None if best is None else best.images_per_second,
        engine_mb=engine.engine_mb,
        peak_rss_mb=engine.memory.peak_rss_batch_1_mb,
        joules_per_image=None if energy is None else energy.joules_per_image,
        caveat=find_caveat(report),
        flags=tuple(dict.fromkeys(flag.word for each in report.engines for flag in find_flags(report, each))),
    )
