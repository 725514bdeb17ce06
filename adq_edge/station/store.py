"""The store of verdicts: each is kept until every sink has acknowledged it, also after a crash.

One thread writes, a batch at a time. Other threads read. While the disk is full, verdicts wait in memory:
sinks get them from there, and they are written once there is space.
"""

from __future__ import annotations

import collections
import itertools
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any, Collection, Deque, Dict, List, Mapping, Optional, Tuple

from adq_edge.core.errors import AdqError, StationError, StorageError
from adq_edge.core.files import storage_errors
from adq_edge.core.json_lines import json_line
from adq_edge.core.transactions.locks import make_lock, release, try_lock
from adq_edge.station.conditions import Conditions
from adq_edge.station.database import Database, Entry
from adq_edge.station.events import Message, Ticket
from adq_edge.station.folders import check_folder
from adq_edge.station.image_files import NO_IMAGES, ImageFiles, KeptImages
from adq_edge.station.options import StoreOptions
from adq_edge.station.retention import Retention

SUBJECT = "store"
_FILE, _LOCK = "verdicts.sqlite", "lock"
_GROUP_S, _GROUP = 0.02, 64
_MOST_AT_ONCE = 1000
_RETRY_S, _RETENTION_S = 1.0, 60.0
MOST_UNSTORED = 10_000
"""Verdicts that are kept in memory while the disk is full or too slow."""


class Store:
    """The verdicts of a station in a folder; any thread may use it.

    Args:
        folder: the folder, made if it is missing.
        options: its limits.
        sinks: the names of the sinks.
        conditions: where a full disk is reported.

    Attributes:
        folder: the folder.
        images: the image files in it.
        start: the number of this start of the station, above that of each earlier one.

    Raises:
        StationError: another station uses the folder, or the file in it is no store.
        StorageError: the folder cannot be written to.
    """

    def __init__(
        self, folder: Path, options: StoreOptions, sinks: Collection[str], conditions: Conditions
    ) -> None:
        self.folder, self._conditions = folder, conditions
        with storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._lock_file = make_lock(folder / _LOCK)
        try:
            _require_lock(self._lock_file, folder)
            self._database = Database(folder / _FILE, options.sync == "full")
            self.start = self._database.new_start()
            self.images = ImageFiles(folder)
            self.images.delete_unless(self._database.has_id)
            self._next = self._database.next_number()
            waiting, refused = self._database.waiting(), self._database.refused()
        except sqlite3.Error as error:
            self._database.close_connection()
            release(self._lock_file)
            raise _explain(error, folder) from error
        except BaseException:
            release(self._lock_file)
            raise
        self._retention = Retention(self._database, self.images, options, sinks)
        lock = threading.Lock()
        self._changed, self._delivered = threading.Condition(lock), threading.Condition(lock)
        self._version = 0
        self._entries: Deque[Entry] = collections.deque()
        self._acknowledged: List[Tuple[str, int]] = []
        self._refused: List[Tuple[str, int, str]] = []
        self._waiting: Dict[str, int] = {**dict.fromkeys(sinks, 0), **waiting}
        self._refusals: Dict[str, int] = {**dict.fromkeys(sinks, 0), **refused}
        self._is_closed = self._is_failing = False
        self._lost = self._in_work = 0
        self._writer = threading.Thread(target=self._write, name="store", daemon=True)
        self._writer.start()

    def add(
        self,
        record: Mapping[str, Any],
        ticket: Ticket,
        sinks: Collection[str],
        key: Optional[str] = None,
        kept: KeptImages = NO_IMAGES,
    ) -> None:
        """Add a verdict; `ticket.stored` is done once it is written.

        Args:
            record: its record.
            ticket: the receipt of its trigger.
            sinks: the sinks that get it.
            key: the key of its trigger.
            kept: its image files.
        """
        text = json_line(record)
        with self._changed:
            self._entries.append(Entry(self._next, record, text, set(sinks), ticket, key, kept))
            self._next += 1
            for sink in sinks:
                self._waiting[sink] += 1
            is_full = len(self._entries) > MOST_UNSTORED
            if is_full:
                self._drop_one()
            self._changed.notify()
            is_failing = self._is_failing
            if is_failing:
                self._announce()
        if is_full and not is_failing:
            self._conditions.report(SUBJECT, f"the disk is too slow: {MOST_UNSTORED} verdicts are in memory")

    def _drop_one(self) -> None:
        """Drop the oldest verdict in memory that every sink has; if there is none, the oldest of all.

        The batch that the writer is about to write stays.
        """
        droppable = list(itertools.islice(self._entries, self._in_work, None))
        dropped = next((one for one in droppable if not one.sinks), droppable[0])
        self._entries.remove(dropped)
        self._lost += bool(dropped.sinks)
        for sink in dropped.sinks:
            self._waiting[sink] -= 1

    def find(self, source: str, key: str) -> Optional[Dict[str, Any]]:
        """Return the record of the verdict for a key of a source; None if it is not in the store."""
        return self._database.find(source, key)

    def has_key(self, source: str, key: str) -> bool:
        """Return True if a verdict with this key of a source was stored, also if it was deleted since."""
        return self._database.has_key(source, key)

    def pending(self, sink: str, after: int, limit: int) -> List[Message]:
        """Return the first messages with numbers above `after` that wait for a sink, at most `limit`."""
        with self._changed:  # before the file is read: what is written meanwhile is found there
            unstored = [
                one
                for one in (self._entries if self._is_failing else ())
                if one.number > after and sink in one.sinks
            ][:limit]
        found = self._database.pending(sink, after, limit)
        return found or [Message(one.number, one.record, one.text) for one in unstored]

    @property
    def version(self) -> int:
        """A number that rises whenever there may be more messages."""
        return self._version

    def wait_for_change(self, version: int, timeout_s: float) -> None:
        """Wait until `version` has risen above a number; `timeout_s` at the most."""
        with self._delivered:
            if self._version == version:
                self._delivered.wait(timeout_s)

    def wake_sinks(self) -> None:
        """End all calls of `wait_for_change`."""
        with self._delivered:
            self._announce()

    def _announce(self) -> None:
        self._version += 1
        self._delivered.notify_all()

    def acknowledge(self, sink: str, messages: Collection[Message]) -> None:
        """Remove what a sink's peer has acknowledged."""
        with self._changed:
            numbers = {message.number for message in messages}
            self._acknowledged += [(sink, number) for number in sorted(numbers)]
            self._remove_from_memory(sink, numbers)
            self._changed.notify()

    def refuse(self, sink: str, message: Message, reason: str) -> None:
        """Keep a message that a sink's peer has refused for good as refused."""
        with self._changed:
            self._refused.append((sink, message.number, reason))
            self._refusals[sink] += 1
            self._remove_from_memory(sink, {message.number})
            self._changed.notify()

    def _remove_from_memory(self, sink: str, numbers: Collection[int]) -> None:
        self._waiting[sink] -= len(numbers)
        if self._is_failing:
            for one in self._entries:
                if one.number in numbers:
                    one.sinks.discard(sink)

    @property
    def waiting(self) -> Dict[str, int]:
        """The number of messages that wait, by sink."""
        with self._changed:
            return dict(self._waiting)

    @property
    def refused(self) -> Dict[str, int]:
        """The number of messages that were refused for good, by sink."""
        with self._changed:
            return dict(self._refusals)

    @property
    def unstored(self) -> int:
        """The number of verdicts that are in memory because the disk is full."""
        with self._changed:
            return len(self._entries) if self._is_failing else 0

    @property
    def lost(self) -> int:
        """The number of verdicts that were neither stored nor delivered: the disk was full or too slow."""
        return self._lost

    def _write(self) -> None:
        """Write batches until the store is closed and empty; retry while the disk is full."""
        next_retention = time.monotonic()
        while self._wait_for_work(next_retention):
            try:
                self._write_batch()
                if time.monotonic() >= next_retention:
                    next_retention = time.monotonic() + _RETENTION_S
                    self._report_size(self._retention.apply())
                self._report(None)
            except (sqlite3.Error, OSError) as error:
                self._report(error)
                if self._is_closed:
                    break
                time.sleep(_RETRY_S)
        self._database.close_connection()

    def _wait_for_work(self, until: float) -> bool:
        """Wait for a full group, or a moment after the first entry; return False at the end."""
        with self._changed:
            while not (self._entries or self._acknowledged or self._refused or self._is_closed):
                pause = until - time.monotonic()
                if pause <= 0.0:
                    return True
                self._changed.wait(pause)
            end = time.monotonic() + _GROUP_S
            while len(self._entries) < _GROUP and not self._is_closed and time.monotonic() < end:
                self._changed.wait(end - time.monotonic())
            return bool(self._entries or self._acknowledged or self._refused or not self._is_closed)

    def _write_batch(self) -> None:
        with self._changed:
            count = min(len(self._entries), _MOST_AT_ONCE)
            entries = list(itertools.islice(self._entries, count))
            self._in_work = count
            acknowledged, refused = list(self._acknowledged), list(self._refused)
        if not (entries or acknowledged or refused):
            return
        try:
            self._database.write(entries, acknowledged, refused)
        except BaseException:
            self._in_work = 0
            raise
        with self._changed:
            self._in_work = 0
            written = {one.number for one in entries}
            while self._entries and self._entries[0].number in written:
                self._entries.popleft()
            del self._acknowledged[: len(acknowledged)]
            del self._refused[: len(refused)]
            self._announce()
        for one in entries:
            one.ticket.stored.set_result(one.record)

    def _report(self, error: Optional[Exception]) -> None:
        """Report that the store cannot be written to, or that it can again."""
        with self._changed:
            was_failing, self._is_failing = self._is_failing, error is not None
            if was_failing or self._is_failing:
                self._announce()
        problem = None if error is None else f"cannot be written to ({error}); verdicts are kept in memory"
        self._conditions.report(SUBJECT, problem)

    def _report_size(self, is_too_large: bool) -> None:
        problem = "larger than max_mb: undelivered verdicts are never deleted" if is_too_large else None
        self._conditions.report(f"{SUBJECT} size", problem)

    def flush(self, timeout_s: float) -> None:
        """Wait until all verdicts are written or the disk is full; `timeout_s` at the most."""
        end = time.monotonic() + timeout_s
        with self._delivered:
            while self._entries and not self._is_failing and time.monotonic() < end:
                self._delivered.wait(end - time.monotonic())

    def close(self) -> int:
        """Write what is left and release the folder; return the number of verdicts that are lost.

        Lost is what could not be written, and was not delivered to each sink from memory.
        """
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._writer.join()
        self._database.close_connection()
        release(self._lock_file)
        self._lost += sum(1 for one in self._entries if one.sinks)
        return self._lost


def check_store(folder: Path) -> None:
    """Check that a folder can be used as a store; nothing in it is changed.

    Raises:
        StationError: another station uses the folder, or the file in it is no store.
        StorageError: the folder cannot be made or written to.
    """
    check_folder(folder)
    if not (folder / _FILE).exists():
        return
    with storage_errors(folder):
        lock = make_lock(folder / _LOCK)
    try:
        _require_lock(lock, folder)
        Database(folder / _FILE, sync=False).close_connection()
    except sqlite3.Error as error:
        raise _explain(error, folder) from error
    finally:
        release(lock)


def _require_lock(lock: int, folder: Path) -> None:
    """Lock a store; raise a StationError if another station has locked it."""
    if not try_lock(lock):
        fix = "Stop it, or name another folder with 'folder' of [store]"
        raise StationError("another station uses this store", where=folder, fix=fix)


def _explain(error: sqlite3.Error, folder: Path) -> AdqError:
    """Return why a store cannot be opened, as one line."""
    if isinstance(error, sqlite3.OperationalError):  # of the disk; a damaged file gives its base class
        fix = "Free some space, or name another folder with 'folder' of [store]"
        return StorageError(f"the store cannot be written to ({error})", where=folder, fix=fix)
    fix = "Move it away, or name another folder with 'folder' of [store]"
    return StationError(f"cannot be used as a store ({error})", where=folder / _FILE, fix=fix)
