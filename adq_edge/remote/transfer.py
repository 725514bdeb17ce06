"""Files on their way to a board: only what is not there yet, and each content once."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, Iterator, List, Mapping, Tuple

from adq_edge.core.files import sha256, storage_errors
from adq_edge.remote.board import Board
from adq_edge.remote.errors import HostError

_BATCH_BYTES = 4 << 20
_BATCH_FILES = 256
_ASKED_AT_ONCE = 5000
_MB = 1e6


def hash_files(board: Board, files: Mapping[str, Path]) -> Dict[str, str]:
    """Return the hash of each file's content by its name.

    Raises:
        StorageError: a file cannot be read.
    """
    hashes = {}
    for name, path in files.items():
        board.check_stop()
        hashes[name] = sha256(path)
    return hashes


def send(
    board: Board, files: Mapping[str, Path], hashes: Mapping[str, str], *, phase: str, spare_mb: float
) -> None:
    """Send files to a board's store.

    Args:
        board: where to.
        files: the files by the name that they get in a job's folder.
        hashes: what `hash_files` returned for them.
        phase: what the step is called.
        spare_mb: free space that must be left there, in MB (10^6 bytes).

    Raises:
        HostError: the board has not enough space.
        DataError: a file changed meanwhile.
        StorageError: a file cannot be read.
    """
    board.show(phase)
    paths = {hashes[name]: path for name, path in files.items()}
    waiting = [(content, paths[content]) for content in _missing(board, sorted(paths))]
    sizes = {content: _size(path) for content, path in waiting}
    total = sum(sizes.values())
    _check_space(board, total / _MB, spare_mb)
    done = 0
    for batch in _batches(waiting, sizes):
        board.show(phase, done, total)
        items = [(content, sizes[content]) for content, _ in batch]
        board.ask("put", [path for _, path in batch], items=items)
        done += sum(size for _, size in items)
    board.show(phase, total, total)


def _missing(board: Board, contents: List[str]) -> List[str]:
    absent: List[str] = []
    for first in range(0, len(contents), _ASKED_AT_ONCE):
        absent += board.ask("missing", names=contents[first : first + _ASKED_AT_ONCE]).content["missing"]
    return absent


def _check_space(board: Board, needed_mb: float, spare_mb: float) -> None:
    free_mb = board.facts().free / _MB
    if free_mb < needed_mb + spare_mb:
        raise HostError(
            f"{free_mb:.0f} MB are free on its disk, {needed_mb + spare_mb:.0f} MB are needed",
            where=board.host,
            fix=f"Free some space: ssh {board.host} df -h .cache",
        )


def _batches(waiting: List[Tuple[str, Path]], sizes: Mapping[str, int]) -> Iterator[List[Tuple[str, Path]]]:
    """Yield files together where they are small: a request has to travel there and back."""
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
