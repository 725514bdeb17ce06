"""The tables of a store in SQLite: verdicts, what waits for which sink, and the keys of triggers."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Set, Tuple

from adq_edge.core.errors import StationError
from adq_edge.station.events import Message, Ticket
from adq_edge.station.image_files import NO_IMAGES, KeptImages

VERSION = 1
_BUSY_S = 30.0
_WAL_BYTES = 64 * 2**20

_SCHEMA = """
CREATE TABLE verdicts(
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, verdict TEXT NOT NULL, created REAL NOT NULL,
    record TEXT NOT NULL, image TEXT, overlay TEXT, image_bytes INTEGER NOT NULL DEFAULT 0);
CREATE INDEX ages ON verdicts(created);
CREATE INDEX images ON verdicts(verdict, number, image_bytes) WHERE image_bytes > 0;
CREATE TABLE deliveries(sink TEXT NOT NULL, number INTEGER NOT NULL, PRIMARY KEY(sink, number)) WITHOUT ROWID;
CREATE INDEX deliveries_of_verdict ON deliveries(number);
CREATE TABLE refusals(sink TEXT NOT NULL, number INTEGER NOT NULL, reason TEXT NOT NULL);
CREATE TABLE keys(source TEXT NOT NULL, key TEXT NOT NULL, id TEXT NOT NULL, UNIQUE(source, key));
CREATE TABLE starts(number INTEGER PRIMARY KEY);
"""
_PENDING = """
SELECT number, record, image, overlay FROM deliveries JOIN verdicts USING(number)
WHERE sink = ? AND number > ? ORDER BY number LIMIT ?
"""


@dataclasses.dataclass
class Entry:
    """A verdict on its way into the store.

    Attributes:
        number: position in the store; rises in the order of the verdicts.
        record: the verdict's record.
        text: the record as one line of JSON.
        sinks: the sinks that have not acknowledged it.
        key: the key of the trigger, if the source gave one.
        kept: its image files.
        ticket: the receipt of the trigger.
    """

    number: int
    record: Mapping[str, Any]
    text: str
    sinks: Set[str]
    ticket: Ticket
    key: Optional[str] = None
    kept: KeptImages = NO_IMAGES


class Database:
    """The tables in a file; each thread has a connection of its own.

    Args:
        path: the file.
        sync: True to wait for the disk at each commit.

    Raises:
        StationError: the file is no store, or of a later release.
    """

    def __init__(self, path: Path, sync: bool) -> None:
        self.path, self._sync = path, sync
        self._local = threading.local()
        try:
            self._prepare()
        except sqlite3.DatabaseError as error:
            fix = "Move it away, or name another folder with 'folder' of [store]"
            raise StationError(f"cannot be used as a store ({error})", where=path, fix=fix) from error

    def _prepare(self) -> None:
        found = self.connection.execute("PRAGMA user_version").fetchone()[0]
        if found == 0:
            self.connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            self.connection.execute("PRAGMA journal_mode = WAL")
            with self.transaction() as connection:
                for statement in _SCHEMA.strip().split(";\n"):
                    connection.execute(statement.rstrip(";"))
                connection.execute(f"PRAGMA user_version = {VERSION}")
        elif found != VERSION:
            fix = "Use the release that wrote it, or move it away"
            raise StationError(f"is of version {found} of the store", where=self.path, fix=fix)

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection of this thread."""
        found: Optional[sqlite3.Connection] = getattr(self._local, "connection", None)
        if found is None:
            found = sqlite3.connect(str(self.path), timeout=_BUSY_S, isolation_level=None)
            found.execute(f"PRAGMA synchronous = {'FULL' if self._sync else 'NORMAL'}")
            found.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES}")
            self._local.connection = found
        return found

    def close_connection(self) -> None:
        """Close the connection of this thread; the last one of all folds the log into the file."""
        found: Optional[sqlite3.Connection] = getattr(self._local, "connection", None)
        if found is not None:
            found.close()
            self._local.connection = None

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Commit what the block writes, or none of it if the block raises."""
        connection = self.connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):  # some errors roll back themselves
                connection.execute("ROLLBACK")
            raise

    def new_start(self) -> int:
        """Return the number of this start of the station: ms since 1970, above that of each earlier start."""
        with self.transaction() as connection:
            last = connection.execute("SELECT max(number) FROM starts").fetchone()[0]
            start = max(int(1000 * time.time()), (last or 0) + 1)
            connection.execute("DELETE FROM starts")
            connection.execute("INSERT INTO starts VALUES (?)", (start,))
        return start

    def next_number(self) -> int:
        """Return the first number that no verdict has."""
        row = self.connection.execute("SELECT max(number) FROM verdicts").fetchone()
        return int(row[0] or 0) + 1

    def write(
        self,
        entries: Iterable[Entry],
        acknowledged: Sequence[Tuple[str, int]],
        refused: Sequence[Tuple[str, int, str]],
    ) -> None:
        """Write verdicts, and remove what sinks have acknowledged or refused, in one transaction."""
        with self.transaction() as connection:
            for one in entries:
                kept = one.kept
                values = (one.number, one.record["id"], one.record["verdict"], time.time(), one.text)
                connection.execute(
                    "INSERT OR IGNORE INTO verdicts VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (*values, kept.image, kept.overlay, kept.size),
                )
                rows = [(sink, one.number) for sink in sorted(one.sinks)]
                connection.executemany("INSERT OR IGNORE INTO deliveries VALUES (?, ?)", rows)
                if one.key is not None:
                    key = (one.record["source"], _encodable(one.key), one.record["id"])
                    connection.execute("INSERT OR REPLACE INTO keys VALUES (?, ?, ?)", key)
            connection.executemany("INSERT INTO refusals VALUES (?, ?, ?)", refused)
            done = [*acknowledged, *((sink, number) for sink, number, _ in refused)]
            connection.executemany("DELETE FROM deliveries WHERE sink = ? AND number = ?", done)

    def find(self, source: str, key: str) -> Optional[Dict[str, Any]]:
        """Return the record of the verdict for a key of a source; None if there is none any more."""
        query = "SELECT record FROM keys JOIN verdicts USING(id) WHERE source = ? AND key = ?"
        row = self.connection.execute(query, (source, _encodable(key))).fetchone()
        return None if row is None else dict(json.loads(row[0]))

    def has_key(self, source: str, key: str) -> bool:
        """Return True if a verdict with this key of a source was stored, also if it was deleted since."""
        query = "SELECT 1 FROM keys WHERE source = ? AND key = ?"
        return self.connection.execute(query, (source, _encodable(key))).fetchone() is not None

    def has_id(self, frame: str) -> bool:
        """Return True if the verdict of a frame is in the store."""
        query = "SELECT 1 FROM verdicts WHERE id = ?"
        return self.connection.execute(query, (frame,)).fetchone() is not None

    def pending(self, sink: str, after: int, limit: int) -> List[Message]:
        """Return the first messages with numbers above `after` that wait for a sink."""
        folder = self.path.parent

        def path(name: Optional[str]) -> Optional[Path]:
            return None if name is None else folder / name

        rows = self.connection.execute(_PENDING, (sink, after, limit))
        return [Message(row[0], json.loads(row[1]), row[1], path(row[2]), path(row[3])) for row in rows]

    def waiting(self) -> Dict[str, int]:
        """Return the number of messages that wait, by sink."""
        rows = self.connection.execute("SELECT sink, count(*) FROM deliveries GROUP BY sink")
        return {str(sink): int(count) for sink, count in rows}

    def refused(self) -> Dict[str, int]:
        """Return the number of messages that were refused, by sink."""
        rows = self.connection.execute("SELECT sink, count(*) FROM refusals GROUP BY sink")
        return {str(sink): int(count) for sink, count in rows}

    def size(self) -> int:
        """Return the bytes that the tables and the kept images take."""
        pages, free, page = (
            int(self.connection.execute(f"PRAGMA {name}").fetchone()[0])
            for name in ("page_count", "freelist_count", "page_size")
        )
        images = self.connection.execute(
            "SELECT total(image_bytes) FROM verdicts WHERE image_bytes > 0"
        ).fetchone()[0]
        return (pages - free) * page + int(images)


def _encodable(key: str) -> str:
    """Return a key with escapes for what is no text, such as the bytes of a file name that is not UTF-8."""
    return key.encode("utf-8", "backslashreplace").decode("utf-8")
