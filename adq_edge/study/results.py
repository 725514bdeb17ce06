"""What a study found out: a file for each cell, and one for the whole."""

from __future__ import annotations

import dataclasses
from typing import Optional, Tuple

from adq_edge.artifacts.bundle import FileReference
from adq_edge.benchmark.results import BenchmarkReport
from adq_edge.core.errors import ResultError
from adq_edge.core.records import Record, record
from adq_edge.evaluation.evaluate import CategoryQuality
from adq_edge.hardware.environment import Environment
from adq_edge.study.config import StudyConfig
from adq_edge.study.data import StudyData
from adq_edge.study.matrix import Cell

_REMEDY = "Run it again: adq-edge study"


@dataclasses.dataclass(frozen=True)
class Quality:
    """Areas under curves, 0 to 1, of the engine that was timed and of its siblings; None without masks.

    Attributes:
        image_auroc: mean over the categories.
        pixel_auroc: mean over the categories with masks.
        aupro: mean over the categories with masks.
        categories: each category, by the engine that is for it.
    """

    image_auroc: Optional[float]
    pixel_auroc: Optional[float]
    aupro: Optional[float]
    categories: Tuple[CategoryQuality, ...]


@dataclasses.dataclass(frozen=True)
class Speed:
    """SingleStream of the first engine, batch 1, the engine call only.

    Attributes:
        mean_ms: mean over all queries, what the study gave.
        ratio: of its median to that of the FP32 engine, which was timed in the same run, turn by turn; None
            for the FP32 engine itself.
        images_per_second: the highest of Offline, where it was measured.
        engine_mb: size of its file in MB (10^6 bytes).
        peak_rss_mb: the most memory of its process at batch 1, in MB (10^6 bytes).
        joules_per_image: energy of the whole board, where it tells; idle power included.
        caveat: why the figures are not to be quoted; None if they are.
        flags: the same in a word or two each; empty in files from before they were kept.
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
        key: hash of the cell's configuration and of the files that it was made from.
        cell: the cell.
        engines: the engine files below the study's folder; the first is the one that was timed.
        all_engines_mb: their sizes together, in MB (10^6 bytes).
        quality: of all engines, each on its own categories.
        speed: of the first engine.
        results: the result files of `eval` and `bench` below the study's folder.
        runtime: what ran the engines, and its version.
        environment: the machine.
        created: when, UTC, ISO 8601.
        seconds: wall time, with what was made for it and is kept for others.
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
        """What ran it: device, machine, runtime and its version."""
        found = self.environment
        name = found.board or f"{found.cpu}, {found.logical_cores} logical cores"
        return f"{self.cell.device.value} {name}, {self.runtime}"


@dataclasses.dataclass(frozen=True)
class CellState:
    """A cell of the matrix and what became of it: a result, or why there is none.

    Attributes:
        cell: the cell.
        result: its figures.
        reason: why it was not run, or what went wrong; None if there is a result or it is still to come.
        failed: whether it was tried.
    """

    cell: Cell
    result: Optional[CellResult] = None
    reason: Optional[str] = None
    failed: bool = False


@record("adq-edge/study", version=1, error=ResultError, fix=_REMEDY)
@dataclasses.dataclass(frozen=True)
class StudyResult(Record):
    """A study, or as much of it as is done.

    Attributes:
        created: when, UTC, ISO 8601.
        config: what was asked for.
        data: the images.
        cells: the whole matrix.
    """

    created: str
    config: StudyConfig
    data: StudyData
    cells: Tuple[CellState, ...]

    @property
    def results(self) -> Tuple[CellResult, ...]:
        """The cells that are done."""
        return tuple(state.result for state in self.cells if state.result is not None)

    @property
    def machines(self) -> Tuple[str, ...]:
        """What ran the cells, each once: device, machine, runtime and its version."""
        return tuple(dict.fromkeys(result.machine for result in self.results))

    @property
    def failures(self) -> Tuple[CellState, ...]:
        """The cells that were tried and failed."""
        return tuple(state for state in self.cells if state.failed)


def speed_of(report: BenchmarkReport) -> Speed:
    """Return the figures of a run's last engine.

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
        caveat=report.caveat,
        flags=tuple(dict.fromkeys(flag.word for each in report.engines for flag in report.flags(each))),
    )
