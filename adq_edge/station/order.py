"""Puts the verdicts of each source into the order of its triggers."""

from __future__ import annotations

import threading
from typing import Callable, Dict, Generic, TypeVar

Item = TypeVar("Item")


class Reorder(Generic[Item]):
    """Releases items by their sequence number, without gaps.

    Args:
        release: called with each item in order, one call at a time.

    Attributes:
        released: number of items that were released.
    """

    def __init__(self, release: Callable[[Item], None]) -> None:
        self._release = release
        self._lock = threading.Lock()
        self.released = 0
        self._early: Dict[int, Item] = {}

    def add(self, sequence: int, item: Item) -> None:
        """Add the item of a sequence number, from 1; release it once all earlier ones were released."""
        with self._lock:
            self._early[sequence] = item
            while self.released + 1 in self._early:
                self._release(self._early.pop(self.released + 1))
                self.released += 1
