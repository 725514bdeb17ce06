"""Reads the result files that a report is made from: those named, and those in the folders named."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple, Union

from adq_edge.benchmark.records import EngineBenchmark
from adq_edge.benchmark.results import BenchmarkReport
from adq_edge.core.console import progress_bar
from adq_edge.core.errors import ResultError, StorageError
from adq_edge.core.files import sha256, storage_errors
from adq_edge.evaluation.compare import Comparison
from adq_edge.evaluation.evaluate import Evaluation
from adq_edge.roofline.estimate import ModelEstimate

_READERS: Mapping[str, Callable[[Path], Any]] = {
    "adq-edge/bench": BenchmarkReport.read,
    "adq-edge/eval": Evaluation.read,
    "adq-edge/compare": Comparison.read,
    "adq-edge/estimate": ModelEstimate.read,
}
_KINDS = "Name result files of bench, eval, compare or bench --estimate, or a folder of them"


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What one run of `bench` measured of one engine.

    Attributes:
        path: the result file.
        report: the run, with this engine alone.
    """

    path: Path
    report: BenchmarkReport

    @property
    def engine(self) -> EngineBenchmark:
        """The engine's figures."""
        return self.report.engines[0]


@dataclasses.dataclass(frozen=True)
class Collection:
    """The content of the result files.

    Attributes:
        measurements: of `bench`, one per engine and run.
        evaluations: of `eval`.
        comparisons: of `compare`.
        estimates: of `bench --estimate`.
        sources: every file that was read and its SHA-256.
        notes: what was left out and why, one sentence each.
    """

    measurements: Tuple[Measurement, ...]
    evaluations: Tuple[Evaluation, ...]
    comparisons: Tuple[Comparison, ...]
    estimates: Tuple[ModelEstimate, ...]
    sources: Tuple[Tuple[Path, str], ...]
    notes: Tuple[str, ...]


def collect(paths: Sequence[Union[str, Path]]) -> Collection:
    """Read result files.

    A file that is named must be a result file that a report can show. Of a folder, files of other kinds are
    left out; but one that should be readable and is not (cut short, of another version) is an error there
    too, for a report must not lack an engine silently. A file that is named or copied twice counts once.

    Args:
        paths: files, and folders whose `.json` files are taken, those of folders inside them included.

    Raises:
        ResultError: nothing to show, or a file that is damaged, foreign or of another version.
        StorageError: a path does not exist or cannot be read.
    """
    found = list(_find([Path(path) for path in paths]))
    records: List[Tuple[Path, Any]] = []
    sources: Dict[str, Path] = {}
    notes: List[str] = []
    with progress_bar("TelemetrySample results", len(found), "files") as advance:
        for path, named in found:
            schema = _read_schema(path)
            digest = sha256(path)
            if schema is None or schema not in _READERS:
                if named:
                    raise ResultError("not a result file that a report can show", where=path, fix=_KINDS)
                notes.append(f"{path} was left out: not a result that a report shows.")
            elif digest in sources:
                notes.append(f"{path} was left out: the same content as {sources[digest]}.")
            else:
                sources[digest] = path
                records.append((path, _READERS[schema](path)))
            advance()
    if not records:
        raise ResultError("nothing to show", where=", ".join(map(str, paths)) or None, fix=_KINDS)
    return _sort(records, sources, notes)


def _find(paths: Sequence[Path]) -> Iterator[Tuple[Path, bool]]:
    """Yield each file once, and whether it was named itself."""
    seen = set()
    for path in paths:
        with storage_errors(path):
            if not path.exists():
                raise StorageError("no such file or folder", where=path, fix="Check the path")
            inside = sorted(path.rglob("*.json")) if path.is_dir() else [path]
        for file in inside:
            hidden = any(part.startswith(".") for part in file.relative_to(path).parts)
            if file.is_file() and not hidden and file.resolve() not in seen:
                seen.add(file.resolve())
                yield file, file is path


def _read_schema(path: Path) -> Optional[str]:
    """Return the schema name that a JSON file carries; None without one."""
    with storage_errors(path):
        content = path.read_bytes()
    try:
        document = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as problem:
        raise ResultError(
            f"damaged or cut short, or not JSON at all ({problem})",
            where=path,
            fix="Measure again, or leave the file out",
        ) from problem
    schema = document.get("schema") if isinstance(document, dict) else None
    return schema if isinstance(schema, str) else None


def _sort(
    records: Sequence[Tuple[Path, Any]], sources: Mapping[str, Path], notes: Sequence[str]
) -> Collection:
    measurements = [
        Measurement(path, dataclasses.replace(record, engines=(engine,)))
        for path, record in records
        if isinstance(record, BenchmarkReport)
        for engine in record.engines
    ]
    return Collection(
        measurements=tuple(measurements),
        evaluations=tuple(record for _, record in records if isinstance(record, Evaluation)),
        comparisons=tuple(record for _, record in records if isinstance(record, Comparison)),
        estimates=tuple(record for _, record in records if isinstance(record, ModelEstimate)),
        sources=tuple((path, digest) for digest, path in sources.items()),
        notes=tuple(notes),
    )
