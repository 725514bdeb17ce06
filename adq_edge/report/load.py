"""Reads the result files that a report is made from: those named, and those in the folders named."""

from __future__ import annotations

import dataclasses
from pathlib import Path, PurePath
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple, Union

from adq_edge.artifacts.file_kinds import describe_file
from adq_edge.benchmark.results import BenchmarkReport
from adq_edge.core.console import progress_bar
from adq_edge.core.errors import ResultError, StorageError
from adq_edge.core.files import sha256, storage_errors
from adq_edge.core.images.folders import is_file
from adq_edge.core.reading import LARGEST_JSON, parse_json, read_regular
from adq_edge.evaluation.analysis import Analysis
from adq_edge.evaluation.compare import Comparison
from adq_edge.evaluation.evaluate import Evaluation
from adq_edge.evaluation.stress_result import StressResult
from adq_edge.report.submission import Submission
from adq_edge.report.submitted import run_of
from adq_edge.roofline.estimate import ModelEstimate

_READERS: Mapping[str, Callable[[Path], Any]] = {
    "adq-edge/bench": BenchmarkReport.read,
    "adq-edge/eval": Evaluation.read,
    "adq-edge/compare": Comparison.read,
    "adq-edge/estimate": ModelEstimate.read,
    "adq-edge/analysis": Analysis.read,
    "adq-edge/stress": StressResult.read,
    "adq-edge/submission": Submission.read,
}
_KINDS = "Name result files of bench, eval, compare, analyze, stress or bench --estimate, or a folder of them"


@dataclasses.dataclass(frozen=True)
class Collection:
    """The content of the result files.

    Attributes:
        runs: runs of `bench` with one engine each, those of submissions included.
        sources: each file that was read, and its SHA-256.
        notes: which files were left out and why, one sentence each.
        sheets: the results of `eval` and `compare` whose sheet of heat maps lies beside them, and the sheet.
    """

    runs: Tuple[BenchmarkReport, ...]
    evaluations: Tuple[Evaluation, ...]
    comparisons: Tuple[Comparison, ...]
    estimates: Tuple[ModelEstimate, ...]
    sources: Tuple[Tuple[Path, str], ...]
    notes: Tuple[str, ...]
    sheets: Tuple[Tuple[Union[Evaluation, Comparison], Path], ...] = ()
    analyses: Tuple[Analysis, ...] = ()
    stresses: Tuple[StressResult, ...] = ()
    submissions: Tuple[Submission, ...] = ()


def load_results(paths: Sequence[Union[str, Path]]) -> Collection:
    """Read result files.

    A named file must be a result file that a report can show. In a folder, files of other kinds are left out.
    A damaged result file, or one of another version, is an error in both cases, because a report must not
    lack an engine silently. A file that is named twice, or a copy of another, counts once.

    Args:
        paths: files, and folders whose `.json` files are read, subfolders included.

    Raises:
        ResultError: no result, or a file that is damaged, foreign or of another version.
        StorageError: a path does not exist or cannot be read.
    """
    files = list(_find_files([Path(path) for path in paths]))
    records: List[Any] = []
    sources: Dict[str, Path] = {}
    notes: List[str] = []
    with progress_bar("Reading results", len(files), "files") as advance:
        for path, named in files:
            schema = _read_schema(path)
            digest = sha256(path)
            if schema not in _READERS:
                if named:
                    raise _other_file_error(path)
                notes.append(f"{path} was left out: not a result that a report shows.")
            elif digest in sources:
                notes.append(f"{path} was left out: the same content as {sources[digest]}.")
            else:
                sources[digest] = path
                records.append(_READERS[schema](path))
            advance()
    if not records:
        raise ResultError("nothing to show", where=", ".join(map(str, paths)) or None, fix=_KINDS)
    submissions = tuple(record for record in records if isinstance(record, Submission))
    reports = [record for record in records if isinstance(record, BenchmarkReport)]
    reports += map(run_of, submissions)
    return Collection(
        runs=tuple(dataclasses.replace(one, engines=(engine,)) for one in reports for engine in one.engines),
        evaluations=tuple(record for record in records if isinstance(record, Evaluation)),
        comparisons=tuple(record for record in records if isinstance(record, Comparison)),
        estimates=tuple(record for record in records if isinstance(record, ModelEstimate)),
        sources=tuple((path, digest) for digest, path in sources.items()),
        notes=tuple(notes),
        sheets=tuple(_sheets(zip(sources.values(), records))),
        analyses=tuple(record for record in records if isinstance(record, Analysis)),
        stresses=tuple(record for record in records if isinstance(record, StressResult)),
        submissions=submissions,
    )


def _sheets(results: Iterable[Tuple[Path, Any]]) -> Iterator[Tuple[Union[Evaluation, Comparison], Path]]:
    """Yield the results with a sheet beside them, and the sheet; files of other folders are not read."""
    for path, record in results:
        if isinstance(record, (Evaluation, Comparison)) and record.sheet is not None:
            sheet = path.parent / PurePath(record.sheet).name
            if is_file(sheet):
                yield record, sheet


def _find_files(paths: Sequence[Path]) -> Iterator[Tuple[Path, bool]]:
    """Yield each file once, and whether it was named itself."""
    seen = set()
    for path in paths:
        with storage_errors(path):
            if not path.exists():
                raise StorageError("no such file or folder", where=path, fix="Check the path")
            if not path.is_dir() and not path.is_file():
                raise StorageError("not a regular file", where=path, fix=_KINDS)
            inside = sorted(path.rglob("*.json")) if path.is_dir() else [path]
        for file in inside:
            hidden = any(part.startswith(".") for part in file.relative_to(path).parts)
            if file.is_file() and not hidden and file.resolve() not in seen:
                seen.add(file.resolve())
                yield file, file is path


def _read_schema(path: Path) -> str:
    """Return the schema name in a JSON file; empty without one."""
    try:
        document = parse_json(read_regular(path, LARGEST_JSON))
    except ValueError as problem:
        if path.suffix.lower() != ".json":
            raise _other_file_error(path) from problem
        raise ResultError(
            f"damaged, truncated or not JSON ({problem})",
            where=path,
            fix="Measure again, or remove the file",
        ) from problem
    schema: Optional[object] = document.get("schema") if isinstance(document, dict) else None
    return schema if isinstance(schema, str) else ""


def _other_file_error(path: Path) -> ResultError:
    kind, what = describe_file(path), "not a result file that a report can show"
    return ResultError(what if kind is None else f"{kind}, {what}", where=path, fix=_KINDS)
