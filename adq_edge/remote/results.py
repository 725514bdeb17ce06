"""The files that a run leaves in the local results folder of a board: result files and logs.

Only the result files of the run's own engines are kept, and only if they are valid. Links are not followed,
and a file that is not of the same kind is not overwritten.
"""

from __future__ import annotations

import dataclasses
import os
import stat
from pathlib import Path
from typing import List, Mapping, NamedTuple, Optional, Sequence, Tuple, Type

from adq_edge.benchmark.results import BenchmarkReport
from adq_edge.core.errors import StorageError
from adq_edge.core.files import check_writable, storage_errors, write_bytes
from adq_edge.core.reading import parse_json
from adq_edge.core.records import Record
from adq_edge.core.text import printable, printable_lines
from adq_edge.evaluation.evaluate import Evaluation
from adq_edge.hardware.doctor import Diagnosis
from adq_edge.remote.agent import LARGEST_LOG
from adq_edge.remote.bench_job import DIAGNOSIS
from adq_edge.remote.errors import HostError
from adq_edge.remote.replies import LARGEST_FILE

LOG = "run.log"
INSTALL_LOG = "install.log"
FAULT_LOG = "fault.log"

_LOGS = (LOG, INSTALL_LOG, FAULT_LOG)
_BENCHMARK = ".bench.json"
_QUICK = f".quick{_BENCHMARK}"
_EVALUATION = ".eval.json"
_LOG_TITLE = "# Output of the commands of adq-edge on a board\n"
_OLD_LOG = b"+ "  # a log of an earlier release starts with a command, unless its start was cut
_MOVE = "Move it, or choose another output folder"


class _Kind(NamedTuple):
    """A kind of result file: the end of its name, its record, and the name of its schema."""

    ending: str
    record: Type[Record]
    schema: str


_KINDS = (
    _Kind(_BENCHMARK, BenchmarkReport, "adq-edge/bench"),
    _Kind(_EVALUATION, Evaluation, "adq-edge/eval"),
    _Kind(DIAGNOSIS, Diagnosis, "adq-edge/doctor"),
)


@dataclasses.dataclass(frozen=True)
class ResultFiles:
    """The result files of a run in a folder, and an error if a file of the board is not valid."""

    benchmarks: Tuple[Path, ...] = ()
    evaluations: Tuple[Path, ...] = ()
    diagnosis: Optional[Path] = None
    problem: Optional[HostError] = None


class ExpectedEngine(NamedTuple):
    """An engine of a run: its name, and the hash of the model that it is built from."""

    name: str
    model_sha256: str

    @property
    def files(self) -> Tuple[str, ...]:
        """The names of its result files."""
        return tuple(f"{self.name}{ending}" for ending in (_EVALUATION, _BENCHMARK, _QUICK))


def result_names(engines: Sequence[ExpectedEngine]) -> Tuple[str, ...]:
    """Return the names of the result files of a run with these engines."""
    return (DIAGNOSIS, *(name for engine in engines for name in engine.files))


def check_targets(folder: Path, names: Sequence[str]) -> None:
    """Check, before a board is contacted, that result files and logs can be written to a board's folder.

    Raises:
        StorageError: the folder or a file is a link, another kind of file, or cannot be written.
    """
    for name in (*_LOGS, *names):
        _check_target(folder / name)
        check_writable(folder / name)


def write_log(path: Path, text: str) -> None:
    """Write the output of commands on a board, with its control characters escaped.

    Raises:
        StorageError: the file cannot be written, is a link, or is not a log.
    """
    _check_target(path)
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    write_bytes(path, f"{_LOG_TITLE}{printable_lines(lines)}".encode())


def write_results(
    host: str, files: Mapping[str, bytes], engines: Sequence[ExpectedEngine], folder: Path
) -> ResultFiles:
    """Write the valid result files of a board; other files are left out.

    Args:
        host: the board.
        files: contents by name, as the board sent them.
        engines: the engines of the run.
        folder: the local folder for them.

    Raises:
        StorageError: a file cannot be written, or its place is taken by something else.
    """
    problem: Optional[HostError] = None
    written = []
    expected = {name: engine for engine in engines for name in engine.files}
    for name in result_names(engines):
        if name not in files:
            continue
        try:
            _check_content(name, files[name], expected.get(name))
        except ValueError as error:
            problem = problem or _invalid(host, name, str(error))
            continue
        _check_target(folder / name)
        write_bytes(folder / name, files[name])
        written.append(folder / name)
    return ResultFiles(
        tuple(path for path in written if path.name.endswith(_BENCHMARK)),
        tuple(path for path in written if path.name.endswith(_EVALUATION)),
        next((path for path in written if path.name == DIAGNOSIS), None),
        problem,
    )


def _check_content(name: str, content: bytes, engine: Optional[ExpectedEngine]) -> None:
    """Raise ValueError unless a file is a valid record of the kind and the engine that its name has."""
    if len(content) > LARGEST_FILE:
        raise ValueError(f"it has more than {LARGEST_FILE >> 20} MiB")
    record = _kind_of(name).record.decode(content)
    if isinstance(record, BenchmarkReport) and record.quick != name.endswith(_QUICK):
        raise ValueError(f"it is {'' if record.quick else 'not '}of a quick run")
    found = _engines_of(record)
    if engine is not None and found != [engine]:
        others = ", ".join(f"{other} of model {model[:12]}" for other, model in found)
        raise ValueError(f"it is of {others}, not of {engine.name} of model {engine.model_sha256[:12]}")


def _engines_of(record: Record) -> List[ExpectedEngine]:
    if isinstance(record, BenchmarkReport):
        return [ExpectedEngine(measured.name, measured.model_sha256) for measured in record.engines]
    if isinstance(record, Evaluation):
        return [ExpectedEngine(Path(record.engine.name).stem, record.model_sha256)]
    return []


def _invalid(host: str, name: str, reason: str) -> HostError:
    what = f"its result file {name} is not valid: {printable(reason, 300)}"
    return HostError(what, where=host, fix="Give the same command again; adq-edge is the same on both sides")


def _check_target(path: Path) -> None:
    """Raise StorageError if a file cannot be written without following a link or losing a user's file."""
    for part, is_kind, kind in ((path.parent, stat.S_ISDIR, "folder"), (path, stat.S_ISREG, "file")):
        try:
            with storage_errors(part):
                mode = os.lstat(str(part)).st_mode
        except StorageError as error:
            if isinstance(error.__cause__, (FileNotFoundError, NotADirectoryError)):
                return
            raise
        if stat.S_ISLNK(mode):
            raise StorageError("is a link, which is not followed", where=part, fix=_MOVE)
        if not is_kind(mode) and not stat.S_ISDIR(mode):
            raise StorageError(f"is not a {kind}", where=part, fix=_MOVE)
    if path.is_file() and not _is_own(path):
        raise StorageError("is a file that adq-edge did not write", where=path, fix=_MOVE)


def _is_own(path: Path) -> bool:
    """Return True if a file is empty or of the kind that its name has."""
    with storage_errors(path), path.open("rb") as file:
        content = file.read(LARGEST_FILE)
    if not content:
        return True
    if path.name in _LOGS:
        return content.startswith((_OLD_LOG, _LOG_TITLE.encode())) or len(content) >= LARGEST_LOG // 2
    try:
        document = parse_json(content)
    except ValueError:
        return False
    return isinstance(document, dict) and document.get("schema") == _kind_of(path.name).schema


def _kind_of(name: str) -> _Kind:
    return next(kind for kind in _KINDS if name.endswith(kind.ending))
