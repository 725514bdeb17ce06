"""Runs one cell of a study: makes its engines, measures them with `eval` and `bench`, writes its result."""

from __future__ import annotations

import datetime
import time
from pathlib import Path
from typing import Optional, Sequence, Tuple

from adq_edge.artifacts.bundle import FileReference
from adq_edge.benchmark.bench import bench, result_files
from adq_edge.benchmark.results import BenchmarkReport
from adq_edge.core.errors import ResultError
from adq_edge.core.files import megabytes, sha256
from adq_edge.evaluation.evaluate import Evaluation, evaluate
from adq_edge.metrics.quality import mean_of_measured
from adq_edge.study.artifact_cache import ArtifactCache
from adq_edge.study.config import StudyConfig, Variant
from adq_edge.study.data import StudyData
from adq_edge.study.matrix import Cell
from adq_edge.study.results import CellResult, Quality, speed_of
from adq_edge.study.specs import Specs

_CELLS = Path("cells")
_RESULTS = Path("results")


class CellRunner:
    """Runs cells and finds the results of finished ones."""

    def __init__(self, config: StudyConfig, data: StudyData, folder: Path) -> None:
        self._config = config
        self._data = data
        self._folder = folder
        self._specs = Specs(config, data)
        self._artifacts = ArtifactCache(config, data, folder)

    def find(self, cell: Cell) -> Optional[CellResult]:
        """Return a cell's result if it belongs to this configuration and these files; else None."""
        path = self._path(cell)
        if not path.is_file():
            return None
        try:
            result = CellResult.read(path)
        except ResultError:
            return None  # written by another release: run again
        return result if result.key == self._specs.key(cell) else None

    def run(self, cell: Cell) -> CellResult:
        """Make and measure a cell's engines; the cell's file is written last.

        Raises:
            AdqError: a step failed.
        """
        started = time.monotonic()
        specs = self._specs.engines(cell)
        engines = [self._artifacts.engine(spec) for spec in specs]
        results = self._folder / _RESULTS / cell.name
        evaluations = [
            evaluate(
                engine,
                self._data.root,
                categories=spec.model.categories,
                output=results / f"{engine.stem}.eval.json",
                threads=self._config.threads,
            )
            for engine, spec in zip(engines, specs)
        ]
        report = self._time(cell, engines[0], results)
        files = [results / f"{engine.stem}.eval.json" for engine in engines]
        files.extend(result_files(report, results))
        result = CellResult(
            key=self._specs.key(cell),
            cell=cell,
            engines=self._sources(engines),
            all_engines_mb=sum(megabytes(engine) for engine in engines),
            quality=_quality(evaluations),
            speed=speed_of(report),
            results=self._sources(files),
            runtime=evaluations[0].runtime,
            environment=report.environment,
            created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            seconds=time.monotonic() - started,
        )
        result.write(self._path(cell))
        return result

    def _time(self, cell: Cell, engine: Path, results: Path) -> BenchmarkReport:
        """Time an engine in turns with the FP32 engine of the same model."""
        engines = [engine]
        if cell.variant is not Variant.FP32:
            engines.insert(0, self._artifacts.engine(self._specs.engines(cell.baseline)[0]))
        config = self._config
        return bench(
            engines,
            device=cell.device,
            threads=config.threads,
            queries=config.queries,
            seconds=config.seconds,
            quick=config.quick,
            output=results,
        )

    def _path(self, cell: Cell) -> Path:
        return self._folder / _CELLS / f"{cell.name}.json"

    def _sources(self, paths: Sequence[Path]) -> Tuple[FileReference, ...]:
        return tuple(FileReference(path.relative_to(self._folder).as_posix(), sha256(path)) for path in paths)


def _quality(evaluations: Sequence[Evaluation]) -> Quality:
    categories = tuple(category for evaluation in evaluations for category in evaluation.categories)
    return Quality(
        image_auroc=mean_of_measured([category.image_auroc for category in categories]),
        pixel_auroc=mean_of_measured([category.pixel_auroc for category in categories]),
        aupro=mean_of_measured([category.aupro for category in categories]),
        categories=categories,
    )
