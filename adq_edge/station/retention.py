"""Deletes delivered verdicts and their images: after a time, and earlier if the store is too large."""

from __future__ import annotations

import time
from typing import Collection, List, Sequence, Tuple

from adq_edge.station.database import Database
from adq_edge.station.image_files import ImageFiles, KeptImages
from adq_edge.station.options import StoreOptions

_ROWS = 500
"""Verdicts that one transaction deletes: the others wait for it."""
_STEPS = 20
_MOST_KEYS = 1_000_000
"""Keys that are remembered for each source; the oldest are forgotten first."""
_DELIVERED = "NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.number = v.number)"
_OLD = f"SELECT number, image, overlay FROM verdicts v WHERE created < ? AND {_DELIVERED} LIMIT {_ROWS}"
_IMAGES = (
    f"SELECT number, image, overlay FROM verdicts v WHERE image_bytes > 0 AND verdict {{}} 'good' "
    f"AND {_DELIVERED} ORDER BY number LIMIT 50"
)
_OLDEST = f"SELECT number, image, overlay FROM verdicts v WHERE {_DELIVERED} ORDER BY number LIMIT {_ROWS}"
_KEYS = (
    "DELETE FROM keys WHERE rowid IN (SELECT rowid FROM keys WHERE source = ? ORDER BY rowid DESC "
    f"LIMIT {_ROWS} OFFSET {_MOST_KEYS})"
)

Row = Tuple[int, str, str]


class Retention:
    """Keeps a store within its limits; only the thread that writes may use it.

    Args:
        database: the tables.
        images: the image files.
        options: the limits.
        sinks: the sinks of the station file; what waits for others is deleted after `keep_days` too.
    """

    def __init__(
        self, database: Database, images: ImageFiles, options: StoreOptions, sinks: Collection[str]
    ) -> None:
        self._database, self._images, self._options, self._sinks = database, images, options, tuple(sinks)

    def apply(self) -> bool:
        """Delete what is beyond the limits, a part of it at a time; return True if the store is too large.

        Raises:
            sqlite3.Error: the store cannot be written to.
        """
        oldest = time.time() - 86_400.0 * self._options.keep_days
        self._forget_other_sinks(oldest)
        for _ in range(_STEPS):
            if not self._delete(self._rows(_OLD, (oldest,))):
                break
        for query in (_IMAGES.format("="), _IMAGES.format("<>"), _OLDEST):
            for _ in range(_STEPS):
                if not self._is_too_large():
                    break
                rows = self._rows(query, ())
                if not (self._delete(rows) if query is _OLDEST else self._delete_images(rows)):
                    break
        self._database.connection.execute("PRAGMA incremental_vacuum(1000)").fetchall()
        return self._is_too_large()

    def _is_too_large(self) -> bool:
        return self._database.size() > 1e6 * self._options.max_mb

    def _rows(self, query: str, values: Sequence[object]) -> List[Row]:
        return self._database.connection.execute(query, values).fetchall()

    def _delete(self, rows: Sequence[Row]) -> bool:
        """Delete verdicts; return False if there are none."""
        with self._database.transaction() as connection:
            numbers = [(number,) for number, _, _ in rows]
            connection.executemany("DELETE FROM verdicts WHERE number = ?", numbers)
        self._delete_files(rows)
        return bool(rows)

    def _delete_images(self, rows: Sequence[Row]) -> bool:
        """Delete the images of verdicts; return False if there are none."""
        clear = "UPDATE verdicts SET image = NULL, overlay = NULL, image_bytes = 0 WHERE number = ?"
        with self._database.transaction() as connection:
            connection.executemany(clear, [(number,) for number, _, _ in rows])
        self._delete_files(rows)
        return bool(rows)

    def _delete_files(self, rows: Sequence[Row]) -> None:
        for _, image, overlay in rows:
            self._images.delete(KeptImages(image, overlay))

    def _forget_other_sinks(self, oldest: float) -> None:
        """Delete old deliveries to sinks that are not in the station file, and the oldest keys."""
        marks = ", ".join("?" for _ in self._sinks)
        old = "SELECT number FROM verdicts WHERE created < ?"
        with self._database.transaction() as connection:
            connection.execute(
                f"DELETE FROM deliveries WHERE sink NOT IN ({marks}) AND number IN ({old})",
                (*self._sinks, oldest),
            )
            for (source,) in connection.execute("SELECT DISTINCT source FROM keys").fetchall():
                connection.execute(_KEYS, (source,))
