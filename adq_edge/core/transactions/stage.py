"""The staged files of one folder, from their writing to the commit."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import stat
import time
from pathlib import Path
from typing import List, Sequence

from adq_edge.core.interruption import delayed_signals
from adq_edge.core.storage import sync
from adq_edge.core.transactions.locks import release_owned, set_owner
from adq_edge.core.transactions.staging_folder import (
    COMMIT,
    CONTAINER,
    GO,
    LOCK,
    NEW,
    OLD,
    PLAN,
    POLL_SECONDS,
    WAIT_SECONDS,
    Move,
    Plan,
    apply_moves,
    busy_error,
    check_commit,
    discard,
    find_moves,
    is_staging,
    make_folders,
    make_staging_folder,
    remove_container,
    remove_folders,
    settle_folder,
)


class Stage:
    """The staged files of one home.

    Attributes:
        home: the folder that the files are moved to; made if it is missing.
        removed: names in `home` to delete with the commit.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.removed: List[str] = []
        self._moves: List[Move] = []
        self._committed = self._abandoned = False
        self._made = make_folders(home)
        try:
            self._folder, self._lock = make_staging_folder(home)
        except BaseException:
            remove_folders(self._made)
            raise
        set_owner(self._lock)

    @property
    def new(self) -> Path:
        """The folder for the new files, which mirrors the home."""
        return self._folder / NEW

    @property
    def name(self) -> str:
        """The number of the staging folder."""
        return self._folder.name

    def seal(self) -> int:
        """Flush the staged files; return the number of changes in the home."""
        for path in sorted(self.new.rglob("*")):
            sync(path)
        self._moves = list(find_moves(self._folder, self.home))
        for move in self._moves:
            with contextlib.suppress(FileNotFoundError):
                mode = stat.S_IMODE(move.target.stat().st_mode)
                (self._folder / move.source).chmod(mode)
        return len(self._moves) + len(self.removed)

    def prepare(self, transaction: str, primary: Path, homes: Sequence[Path]) -> None:
        """Keep the old files and write down what the commit needs."""
        self.keep_old()
        others = [os.path.relpath(str(home), str(self.home)) for home in homes if home != self.home]
        back = os.path.relpath(str(primary), str(self.home))
        plan = Plan(transaction, back, others, self.removed)
        (self._folder / PLAN).write_text(json.dumps(plan._asdict()), encoding="utf-8")
        sync(self._folder / PLAN)
        sync(self._folder)

    def keep_old(self) -> None:
        """Keep the files that the commit replaces or deletes."""
        old = self._folder / OLD
        for number, target in enumerate(self._targets()):
            if target.is_file():
                old.mkdir(exist_ok=True)
                _link(target, old / str(number))

    def enter(self) -> None:
        """Rename the staging folder to `commit`; wait while the commit of another process has this name.

        Raises:
            StorageError: another process commits for more than a minute.
        """
        commit = self.home / CONTAINER / COMMIT
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            settle_folder(self.home)
            try:
                self._folder.rename(commit)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                    raise
                check_commit(commit)
                if is_staging(commit) and not (commit / LOCK).exists():
                    shutil.rmtree(str(commit), ignore_errors=True)
                if time.monotonic() > deadline:  # what another user left, or a user's own folder
                    raise busy_error(self.home) from error
                time.sleep(POLL_SECONDS)
                continue
            self._folder = commit
            sync(commit.parent)
            return

    def mark(self) -> None:
        """Write `go`, the point of no return of the whole transaction; called for its primary stage only."""
        (self._folder / GO).touch()
        sync(self._folder)

    def apply(self) -> None:
        """Move the files into the home."""
        apply_moves(self._folder, self._moves, self.home, self.removed)
        self._committed = True

    def undo(self) -> None:
        """Put the old files back, as far as they were replaced."""
        sources = [self._folder / move.source for move in self._moves]
        for number, target in enumerate(self._targets()):
            is_there = os.path.lexists(str(target))
            if number < len(sources) and is_there and not os.path.lexists(str(sources[number])):
                target.rename(sources[number])
                is_there = False
            old = self._folder / OLD / str(number)
            if old.exists() and not is_there:
                old.rename(target)
        self._committed = False

    def revert(self) -> None:
        """Put the old file of a commit of one change back, at once."""
        for number, target in enumerate(self._targets()):
            old = self._folder / OLD / str(number)
            if old.exists():
                old.replace(target)
            elif number < len(self._moves) and not os.path.lexists(
                str(self._folder / self._moves[number].source)
            ):
                target.rename(self._folder / self._moves[number].source)
        self._committed = False

    def unmark(self) -> None:
        """Remove `go`, after all stages are undone."""
        with contextlib.suppress(FileNotFoundError):
            (self._folder / GO).unlink()

    def abandon(self) -> None:
        """Leave the staging folder to the next process that reads or writes here."""
        self._abandoned = True

    def close(self) -> None:
        """Remove the staging folder, and new folders of the home if nothing was committed."""
        with delayed_signals():
            if not self._abandoned:
                with contextlib.suppress(OSError):  # the next run deletes it
                    discard(self._folder)
            release_owned(self._lock)
            remove_container(self.home)
            if not self._committed:
                remove_folders(self._made)

    def _targets(self) -> List[Path]:
        return [*(move.target for move in self._moves), *(self.home / name for name in self.removed)]


def _link(source: Path, target: Path) -> None:
    try:
        os.link(str(source), str(target))
    except OSError:  # a file system without hard links
        shutil.copy2(str(source), str(target))
