"""Files that change together or not at all, whatever ends the process.

    with write_together() as files:
        evaluation.write(result)                # atomic_path, write_bytes and write_image also join
        with files.path(engine) as staged: ...  # a file of your own: write to `staged`
        files.check(require_same_engine)        # called while no other process can commit; it may raise

All content is staged in hidden folders beside the targets (see `staging_folder`) and flushed. Then the files
are moved into place. After an exception the old files are there. After a kill, `settle`, which all
readers of pairs call, completes the change if it had passed the point of no return.

The block does not see its own writes, and a program that it starts does not either: write scratch files with
`Path.write_bytes`.
"""

from __future__ import annotations

import contextlib
import contextvars
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Optional, Tuple

from adq_edge.core.interruption import delayed_signals
from adq_edge.core.scratch import temporary_folder
from adq_edge.core.storage import storage_errors
from adq_edge.core.targets import Kind, find_target, write_through
from adq_edge.core.transactions.stage import Stage
from adq_edge.core.transactions.staging_folder import settle_folder

_current: contextvars.ContextVar[Optional[Transaction]] = contextvars.ContextVar("transaction", default=None)
_has_stored = False


class Transaction:
    """Changes that `write_together` commits at the end of its block."""

    def __init__(self) -> None:
        self._stages: Dict[Path, Stage] = {}
        self._streams: List[Tuple[Path, Path]] = []
        self._checks: List[Callable[[], None]] = []
        self._scratch = contextlib.ExitStack()
        self._named: Optional[Path] = None

    @contextlib.contextmanager
    def path(self, target: Path, kind: Optional[Kind] = None) -> Iterator[Path]:
        """Yield the path to write the new content of `target` to; it has the target's name.

        Args:
            target: the file. Its parent folders are made. A symbolic link stays, and the file behind it is
                replaced. A device or a pipe is written to.
            kind: the kind of file to write; an existing file of another kind is not replaced.

        Raises:
            StorageError: the file cannot be written or is of another kind.
        """
        if any(stage.new in target.parents for stage in self._stages.values()):
            with storage_errors(target):
                target.parent.mkdir(parents=True, exist_ok=True)
            yield target  # within a folder that is staged
            return
        found = find_target(target, kind)
        self._named = self._named or target
        with storage_errors(target):
            if found.is_stream:
                staged = self._scratch_folder() / (target.name or "stream")
                self._streams.append((target, staged))
            else:
                staged = self._stage(found.path.parent).new / found.path.name
            try:
                yield staged
            except BaseException:
                with contextlib.suppress(OSError):
                    staged.unlink()
                raise

    @contextlib.contextmanager
    def folder(self, target: Path) -> Iterator[Path]:
        """Yield an empty folder whose files replace those of the same names in `target`; others stay.

        Raises:
            StorageError: the folder cannot be written to or is full.
        """
        self._named = self._named or target
        with storage_errors(target):
            real = target.resolve()
            stage = self._stage(real if real.is_dir() else real.parent)
            staged = stage.new if real.is_dir() else stage.new / real.name
            staged.mkdir(exist_ok=True)
            yield staged

    def remove(self, target: Path) -> None:
        """Delete a file with the commit."""
        with storage_errors(target):
            real = target.resolve()
            self._stage(real.parent).removed.append(real.name)

    def check(self, function: Callable[[], None]) -> None:
        """Call a function when no other process can commit in these folders; it raises to cancel."""
        self._checks.append(function)

    def commit(self) -> None:
        """Put the staged files in place.

        Raises:
            StorageError: a file cannot be written; the old files are there.
        """
        global _has_stored
        if self._named is None:
            return
        stages = [self._stages[home] for home in sorted(self._stages)]
        with storage_errors(self._named):
            changes = sum(stage.seal() for stage in stages)
            for target, staged in self._streams:
                write_through(target, staged)
            if changes + len(self._checks) > 1:
                self._commit_together(stages)
            else:
                for stage in stages:
                    settle_folder(stage.home)
                    stage.keep_old()
                with delayed_signals():
                    _apply_one(stages)
        _has_stored = True

    def _commit_together(self, stages: List[Stage]) -> None:
        primary, homes = stages[-1], [stage.home for stage in stages]
        transaction = primary.name
        for stage in stages:
            stage.prepare(transaction, primary.home, homes)
        for stage in stages:
            stage.enter()
        for check in self._checks:
            check()
        with delayed_signals():
            try:
                primary.mark()
                for stage in stages:
                    stage.apply()
            except BaseException:
                _undo(stages)
                raise

    def close(self) -> None:
        """Remove everything that is staged; the primary stage last."""
        with delayed_signals():
            self._scratch.close()
            for home in sorted(self._stages):
                self._stages[home].close()

    def _stage(self, home: Path) -> Stage:
        if home not in self._stages:
            self._stages[home] = Stage(home)
        return self._stages[home]

    def _scratch_folder(self) -> Path:
        return self._scratch.enter_context(temporary_folder())


def _apply_one(stages: List[Stage]) -> None:
    """Commit a single change; if its folder cannot be flushed, put the old file back."""
    try:
        for stage in stages:
            stage.apply()
    except BaseException:
        for stage in stages:
            with contextlib.suppress(OSError):
                stage.revert()
        raise


def _undo(stages: List[Stage]) -> None:
    """Put all old files back; if that fails, leave everything to the next `settle`, which completes it."""
    try:
        for stage in stages:
            stage.undo()
        stages[-1].unmark()
    except OSError:
        for stage in stages:
            stage.abandon()


def has_stored() -> bool:
    """Return True if this process has stored a file since it started."""
    return _has_stored


@contextlib.contextmanager
def write_together() -> Iterator[Transaction]:
    """Change all files that are written in the block at its end, or none (see the module).

    A block within another one joins it.

    Raises:
        StorageError: a file cannot be written; the old files are there.
    """
    outer = _current.get()
    if outer is not None:
        yield outer
        return
    transaction = Transaction()
    token = _current.set(transaction)
    try:
        yield transaction
        transaction.commit()
    finally:
        _current.reset(token)
        transaction.close()


@contextlib.contextmanager
def atomic_path(target: Path, kind: Optional[Kind] = None) -> Iterator[Path]:
    """Yield a path that becomes `target` when the block succeeds; arguments and errors of `Transaction.path`.

    After an exception, a kill or a loss of power `target` is the old or the new file, never a part of one.
    Within `write_together` the file appears with the others.
    """
    outer = _current.get()
    if outer is not None:
        with outer.path(target, kind) as staged:
            yield staged
        return
    transaction = Transaction()
    try:
        with transaction.path(target, kind) as staged:
            yield staged
        with storage_errors(target):
            transaction.commit()
    finally:
        transaction.close()


def write_bytes(path: Path, content: bytes, kind: Optional[Kind] = None) -> None:
    """Write `content` to `path`; see `atomic_path`."""
    with atomic_path(path, kind) as staged:
        staged.write_bytes(content)
