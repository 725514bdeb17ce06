"""Sends files to a board, without duplicates and without contents that the board already has."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, Iterator, List, Mapping, Tuple

from adq_edge.core.files import sha256, storage_errors
from adq_edge.remote.board import Board
from adq_edge.remote.errors import disk_full

_BATCH_BYTES = 4 << 20
_BATCH_FILES = 256
_NAMES_PER_REQUEST = 5000
_MB = 1e6


def hash_files(board: Board, files: Mapping[str, Path]) -> Dict[str, str]:
    """Return the SHA-256 of each file's content, by file name.

    Raises:
        StorageError: a file cannot be read.
    """
    hashes = {}
    for name, path in files.items():
        board.check_stop()
        hashes[name] = sha256(path)
    return hashes


def send(
    board: Board,
    job: str,
    files: Mapping[str, Path],
    hashes: Mapping[str, str],
    *,
    phase: str,
    spare_mb: float,
) -> None:
    """Send the files of a job to a board.

    Args:
        board: the board.
        job: name of the job.
        files: the files by their names in the job's folder.
        hashes: the result of `hash_files` for them.
        phase: name of the step.
        spare_mb: disk space that must stay free on the board, in MB (10^6 bytes).

    Raises:
        HostError: the board does not have enough disk space.
        DataError: a file changed while it was sent.
        StorageError: a file cannot be read.
    """
    board.show(phase)
    paths = {hashes[name]: path for name, path in files.items()}
    waiting = [(content, paths[content]) for content in _missing(board, job, sorted(paths))]
    sizes = {content: _size(path) for content, path in waiting}
    total = sum(sizes.values())
    _check_space(board, total / _MB, spare_mb)
    done = 0
    for batch in _batches(waiting, sizes):
        board.show(phase, done, total)
        items = [(content, sizes[content]) for content, _ in batch]
        board.ask("put", [path for _, path in batch], job=job, sender=board.sender, items=items)
        done += sum(size for _, size in items)
    board.show(phase, total, total)


def _missing(board: Board, job: str, contents: List[str]) -> List[str]:
    absent: List[str] = []
    for first in range(0, len(contents), _NAMES_PER_REQUEST):
        names = contents[first : first + _NAMES_PER_REQUEST]
        reply = board.ask("missing", job=job, sender=board.sender, names=names)
        absent += reply.content.subset("missing", names)
    return absent


def _check_space(board: Board, needed_mb: float, spare_mb: float) -> None:
    free_mb = board.read_info().free / _MB
    if free_mb < needed_mb + spare_mb:
        what = f"{free_mb:.0f} MB are free on its disk, {needed_mb + spare_mb:.0f} MB are needed"
        raise disk_full(board.host, what)


def _batches(waiting: List[Tuple[str, Path]], sizes: Mapping[str, int]) -> Iterator[List[Tuple[str, Path]]]:
    """Yield batches of small files, because each request costs a round trip."""
    batch: List[Tuple[str, Path]] = []
    for content, path in waiting:
        batch.append((content, path))
        if len(batch) == _BATCH_FILES or sum(sizes[name] for name, _ in batch) >= _BATCH_BYTES:
            yield batch
            batch = []
    if batch:
        yield batch


def _size(path: Path) -> int:
    with storage_errors(path):
        return path.stat().st_size
